//! Every log there is, one file each, as the last table shows them; and what is known of
//! those that were left out of this build.

#[cfg(feature = "commitlog")]
mod commitlog;
#[cfg(feature = "fjall")]
mod fjall;
#[cfg(feature = "kafko")]
mod kafko;
#[cfg(feature = "krabka")]
mod krabka;
#[cfg(feature = "okaywal")]
mod okaywal;
#[cfg(feature = "raft-engine")]
mod raft_engine;
#[cfg(feature = "redb")]
mod redb;
#[cfg(feature = "seglog")]
mod seglog;
mod floor;
mod thalweg;
#[cfg(feature = "walrus")]
mod walrus;

use crate::peer::{About, Can, Entry};

macro_rules! peer {
    ($feature:literal, $module:ident, $name:literal, $why:literal) => {{
        #[cfg(feature = $feature)]
        {
            Entry { about: &$module::ABOUT, open: Some($module::open) }
        }
        #[cfg(not(feature = $feature))]
        {
            const ABOUT: About = absent($name, concat!("not in this build (feature `", $feature, "`)", $why));
            Entry { about: &ABOUT, open: None }
        }
    }};
}

pub(crate) fn all() -> Vec<Entry> {
    vec![
        Entry { about: &thalweg::ABOUT, open: Some(thalweg::open) },
        Entry { about: &thalweg::NO_SYNCS, open: Some(thalweg::open_without_syncs) },
        Entry { about: &floor::ABOUT, open: Some(floor::open) },
        Entry { about: &floor::NO_SYNCS, open: Some(floor::open_without_syncs) },
        peer!("walrus", walrus, "walrus-rust", ""),
        peer!("commitlog", commitlog, "commitlog", ""),
        peer!("raft-engine", raft_engine, "raft-engine", ""),
        peer!("okaywal", okaywal, "okaywal", ""),
        peer!("seglog", seglog, "seglog", ""),
        peer!("kafko", kafko, "kafko", ""),
        peer!("krabka", krabka, "krabka-log", ": what it builds on asks for Rust 1.98.1"),
        peer!("fjall", fjall, "fjall", ""),
        peer!("redb", redb, "redb", ""),
    ]
}

#[cfg_attr(
    all(
        feature = "walrus",
        feature = "commitlog",
        feature = "raft-engine",
        feature = "okaywal",
        feature = "seglog",
        feature = "kafko",
        feature = "krabka",
        feature = "fjall",
        feature = "redb"
    ),
    expect(dead_code, reason = "nothing is absent")
)]
const fn absent(name: &'static str, why: &'static str) -> About {
    About {
        name,
        each: Can::No(why),
        batches: Can::No(why),
        durable: Can::No(why),
        replay: Can::No(why),
        logs: Can::No(why),
        settings: "",
    }
}
