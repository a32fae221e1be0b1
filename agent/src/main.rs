//! `tierlift`: recovery agent for QNAP storage pools.
use std::process::ExitCode;

fn main() -> ExitCode {
    tierlift::commands::main()
}
