//! Frames and messages of the serial control protocol, used by the agent and by remote clients.
