//! Acknowledgements printed as they come: one line a record, in order of sending, with the number of its line in
//! the input (a record that failed has none, so counting would not do).
//!
//! A thread waits for the oldest record that isn't acknowledged. Only so many receipts are in
//! flight: when it falls behind, sending waits.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TryRecvError};
use std::thread::JoinHandle;

use thalweg::Receipt;

use crate::failure::Failure;
use crate::output;

/// Receipts handed to the printer at a time.
const CHUNK: usize = 1_024;
/// Chunks that may wait for the printer.
const CHUNKS_WAITING: usize = 256;

/// Who looks after the receipts of what was sent.
pub(crate) trait Receipts {
    /// The next record's; an error stops the sending.
    fn take(&mut self, receipt: Receipt) -> Result<(), Failure>;

    /// Nothing may follow for a while.
    fn pause(&mut self);
}

/// The sender's end: takes receipts, gives them to the printing thread.
pub(crate) struct Acknowledgements {
    chunk: Vec<Receipt>,
    chunks: SyncSender<Vec<Receipt>>,
    failed: Arc<AtomicBool>,
    printer: JoinHandle<Printed>,
}

impl Acknowledgements {
    pub(crate) fn start() -> Result<Acknowledgements, Failure> {
        let (chunks, received) = mpsc::sync_channel(CHUNKS_WAITING);
        let failed = Arc::new(AtomicBool::new(false));
        let printer = Printer {
            stdout: Some(output::stdout()?),
            failed: failed.clone(),
            line: 0,
            closed: false,
            printed: Printed::default(),
        };
        let printer = std::thread::Builder::new()
            .name("acknowledgements".to_owned())
            .spawn(move || printer.run(&received))
            .map_err(|error| Failure::new(format!("could not start a thread: {error}")))?;
        Ok(Acknowledgements { chunk: Vec::with_capacity(CHUNK), chunks, failed, printer })
    }

    /// Waits for the last one. How many records were acknowledged, and why not all, if not.
    pub(crate) fn finish(mut self) -> (u64, Option<Failure>) {
        self.pause();
        drop(self.chunks);
        match self.printer.join() {
            Ok(printed) => (printed.acknowledged, printed.failure),
            Err(_) => (0, Some(Failure::new("the thread that prints acknowledgements died"))),
        }
    }
}

impl Receipts for Acknowledgements {
    #[inline]
    fn take(&mut self, receipt: Receipt) -> Result<(), Failure> {
        self.chunk.push(receipt);
        if self.chunk.len() == CHUNK {
            self.pause();
        }
        if self.failed.load(Ordering::Relaxed) {
            return Err(Failure::new("stopped because an earlier record failed"));
        }
        Ok(())
    }

    fn pause(&mut self) {
        if !self.chunk.is_empty() {
            // The printer ends only after this end was dropped.
            let _ = self.chunks.send(std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK)));
        }
    }
}

/// What became of all receipts.
#[derive(Default)]
struct Printed {
    acknowledged: u64,
    failure: Option<Failure>,
}

struct Printer {
    /// Gone when it is closed or fails; receipts are waited for all the same.
    stdout: Option<BufWriter<File>>,
    /// Tells the sender to stop.
    failed: Arc<AtomicBool>,
    /// The line whose record was acknowledged last, or failed.
    line: u64,
    closed: bool,
    printed: Printed,
}

impl Printer {
    fn run(mut self, chunks: &Receiver<Vec<Receipt>>) -> Printed {
        loop {
            let chunk = match chunks.try_recv() {
                Err(TryRecvError::Empty) => {
                    self.write(|stdout| stdout.flush());
                    chunks.recv().ok()
                }
                chunk => chunk.ok(),
            };
            let Some(chunk) = chunk else { break };
            for receipt in chunk {
                self.print(&receipt);
            }
        }
        self.write(|stdout| stdout.flush());
        if self.closed {
            self.printed.failure.get_or_insert(Failure::StdoutClosed);
        }
        self.printed
    }

    fn print(&mut self, receipt: &Receipt) {
        self.line += 1;
        let acknowledged = match receipt.is_acknowledged() {
            Ok(false) => {
                // Before waiting, all that is known is told.
                self.write(|stdout| stdout.flush());
                receipt.wait().map(drop)
            }
            result => result.map(drop),
        };
        match acknowledged {
            Ok(()) => {
                self.printed.acknowledged += 1;
                let (partition, offset, line) = (receipt.partition(), receipt.offset(), self.line);
                self.write(|stdout| {
                    writeln!(stdout, "{{\"partition\":{partition},\"offset\":{offset},\"line\":{line}}}")
                });
            }
            Err(error) => {
                self.failed.store(true, Ordering::Relaxed);
                self.printed.failure.get_or_insert_with(|| error.into());
            }
        }
    }

    fn write(&mut self, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) {
        let Some(stdout) = &mut self.stdout else { return };
        if let Err(error) = write(stdout) {
            self.stdout = None;
            self.failed.store(true, Ordering::Relaxed);
            match Failure::stdout(error) {
                // A record that fails later says more.
                Failure::StdoutClosed => self.closed = true,
                failure => drop(self.printed.failure.get_or_insert(failure)),
            }
        }
    }
}
