//! Virtual-machine scenarios: everything that needs the appliance's kernel.
