//! What `recover` kills: a process that appends until then. It says `full` when it has written as much as
//! it was told to, and goes on. It ends by itself when nobody holds its stdin any more.

use std::io::{self, Read};

use thalweg::Record;

use super::TOPIC;
use crate::bench::payload::{Payloads, Spread};
use crate::bench::settings::Settings;
use crate::directory::Directory;
use crate::failure::Failure;
use crate::output;

pub(crate) fn run(directory: &Directory, settings: &Settings) -> Result<(), Failure> {
    std::thread::spawn(|| {
        // Until its end: whoever started this one is gone.
        let _ = io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(1);
    });
    let payloads = Payloads::new(settings.record, settings.seed);
    let engine = settings.builder(directory.path()).create(false).open()?;
    let producer = engine.producer_for(TOPIC)?;
    let spread = Spread { partitions: settings.partitions, fixed: false };
    let full = settings.total_bytes.unwrap_or_default();
    let (mut n, mut bytes, mut partition, mut said) = (0, 0, 0, false);
    loop {
        let value = payloads.value(0, n);
        let _ = producer.send(Record::new(value).partition(partition))?;
        partition = spread.next(partition);
        (n, bytes) = (n + 1, bytes + value.len() as u64);
        if bytes >= full && !said {
            output::print("full\n")?;
            said = true;
        }
    }
}
