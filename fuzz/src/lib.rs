//! What every libFuzzer target of Tierlift is: a target of `tierlift-fuzz` in a process that may not have 1 GiB of memory.

/// The entry point of a target, and its allocator.
#[macro_export]
macro_rules! fuzz {
    ($name:literal) => {
        /// An input that asks for more than 1 GiB, at once or in all, ends the process as a crash does.
        #[global_allocator]
        static MEMORY: $crate::Cap<std::alloc::System> = $crate::Cap::new(std::alloc::System, 1 << 30);

        libfuzzer_sys::fuzz_target!(init: tierlift_fuzz::warm_up(), |input: &[u8]| {
            (tierlift_fuzz::Target::named($name).run)(input);
        });
    };
}

pub use cap::Cap;
