//! What stands in for the world around a plugin, so that a call can be repeated to the letter: time, chance, and faults
//! at the calls of the host. Tests of plugins use it; without it everything is real.

use std::sync::Arc;
use std::time::Duration;

use cooperage_solve::Error;
use wasmtime_wasi::{Deterministic, HostWallClock, WasiCtxBuilder};

/// What is not real for the plugins of an engine. The default is a world without stand-ins.
#[derive(Clone, Default)]
pub struct StandIns {
    /// The time on the wall, since 1970; it stands still.
    pub time: Option<Duration>,
    /// Random bytes follow from this number. Never for anything that others must not guess.
    pub seed: Option<u64>,
    /// Is asked before calls of the host.
    pub gate: Option<Arc<dyn Gate>>,
}

/// May let a call of the host fail before anything is done.
pub trait Gate: Send + Sync {
    /// `at` is the interface of the contract, such as `state`. An error is the answer that the guest gets.
    fn pass(&self, at: &str) -> Result<(), Error>;
}

impl StandIns {
    pub(crate) fn pass(&self, at: &str) -> Result<(), Error> {
        self.gate.as_ref().map_or(Ok(()), |gate| gate.pass(at))
    }

    /// The monotonic clock stays real: timeouts and pauses would never end.
    pub(crate) fn configure(&self, wasi: &mut WasiCtxBuilder) {
        if let Some(time) = self.time {
            wasi.wall_clock(Stopped(time));
        }
        if let Some(seed) = self.seed {
            wasi.secure_random(Deterministic::new(bytes(seed)));
            wasi.insecure_random(Deterministic::new(bytes(!seed)));
            wasi.insecure_random_seed(u128::from(seed));
        }
    }
}

struct Stopped(Duration);

impl HostWallClock for Stopped {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }

    fn now(&self) -> Duration {
        self.0
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): short, and the same for ever, as recordings need it.
fn bytes(seed: u64) -> Vec<u8> {
    const BEFORE_IT_REPEATS: usize = 8 << 10;
    let mut state = seed;
    let word = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)).to_le_bytes()
    };
    std::iter::repeat_with(word).take(BEFORE_IT_REPEATS / 8).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_follows_from_the_seed_as_published() {
        let first = |seed| u64::from_le_bytes(bytes(seed)[..8].try_into().unwrap());
        assert_eq!(first(1_234_567), 6_457_827_717_110_365_317);
        assert_ne!(first(1), first(2));
    }
}
