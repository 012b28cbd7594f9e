//! A writer's thread and those who do its work, over the engine's hand-over (`partition/shared.rs`).

use loom::sync::Arc;
use loom::thread;

use crate::explore_up_to;
use crate::shared::Shared;

/// A writer whose work is to take what came: how much that was in all.
struct Writer {
    shared: Shared<usize>,
    news: loom::sync::atomic::AtomicUsize,
    woken: loom::sync::atomic::AtomicBool,
}

impl Writer {
    fn new() -> Arc<Writer> {
        let (news, woken) = (loom::sync::atomic::AtomicUsize::new(0), loom::sync::atomic::AtomicBool::new(false));
        Arc::new(Writer { shared: Shared::new(0), news, woken })
    }

    fn has_news(&self) -> bool {
        self.news.load(loom::sync::atomic::Ordering::SeqCst) > 0
    }

    fn wake_if(&self, is_to_wake: bool) {
        if is_to_wake {
            self.woken.store(true, loom::sync::atomic::Ordering::SeqCst);
        }
    }

    fn send(&self) {
        self.news.fetch_add(1, loom::sync::atomic::Ordering::SeqCst);
        self.wake_if(self.shared.call());
    }

    /// What one does who waits alone; with `leaves`, he can't do all of it.
    fn help(&self, leaves: bool) {
        if let Some(mut work) = self.shared.take_in_turn() {
            *work += self.news.swap(0, loom::sync::atomic::Ordering::SeqCst);
            self.shared.helped();
            self.wake_if(self.shared.give_back(work, leaves, || self.has_news()));
        }
    }

    /// What a reader does that would find nothing: also what another left for the thread.
    fn help_to_read(&self, leaves: bool) {
        if let Some(mut work) = self.shared.take() {
            self.shared.look();
            *work += self.news.swap(0, loom::sync::atomic::Ordering::SeqCst);
            self.wake_if(self.shared.give_back(work, leaves, || self.has_news()));
        }
    }

    /// What the others do who wait.
    fn wait(&self) {
        // As when they enter themselves among those who wait.
        loom::sync::atomic::fence(loom::sync::atomic::Ordering::SeqCst);
        self.wake_if(self.shared.rouse());
    }

    /// What its thread does, until it sleeps or naps, and nobody else does anything any more: then nothing is
    /// undone, or it was called.
    fn run_until_asleep(&self, others: Vec<thread::JoinHandle<()>>) {
        let asleep = || {
            for other in others {
                other.join().unwrap();
            }
            let woken = self.woken.load(loom::sync::atomic::Ordering::SeqCst);
            assert!(woken || !self.has_news(), "asleep, and nobody tells it of the news");
            assert!(woken || !self.shared.is_left(), "asleep, and nobody tells it of what was left");
        };
        let mut asleep = Some(asleep);
        loop {
            if self.shared.nap(|| asleep.take().unwrap()()) {
                return;
            }
            if (self.shared.is_left() || self.has_news())
                && let Some(mut work) = self.shared.take()
            {
                self.shared.look();
                *work += self.news.swap(0, loom::sync::atomic::Ordering::SeqCst);
            }
            if self.shared.may_sleep(|| self.has_news()) {
                return asleep.take().unwrap()();
            }
            loom::thread::yield_now();
        }
    }
}

#[test]
fn who_helps_a_writer_leaves_nothing_undone_behind_its_back() {
    for leaves in [false, true] {
        explore_up_to(5, move || {
            let writer = Writer::new();
            let helper = writer.clone();
            let helper = thread::spawn(move || {
                helper.send();
                helper.help(leaves);
            });
            writer.run_until_asleep(vec![helper]);
        });
    }
}

#[test]
fn what_comes_while_somebody_helps_is_not_forgotten() {
    explore_up_to(4, || {
        let writer = Writer::new();
        let helper = writer.clone();
        let helper = thread::spawn(move || {
            helper.send();
            helper.help(false);
        });
        let sender = writer.clone();
        let sender = thread::spawn(move || {
            sender.send();
            sender.wait();
        });
        writer.run_until_asleep(vec![helper, sender]);
    });
}

#[test]
fn two_who_want_the_work_do_not_wait_for_each_other() {
    explore_up_to(3, || {
        let writer = Writer::new();
        let helpers = [(); 2].map(|()| {
            let helper = writer.clone();
            thread::spawn(move || {
                helper.send();
                helper.help(false);
                helper.wait();
            })
        });
        writer.run_until_asleep(helpers.into());
    });
}

#[test]
fn what_a_reader_does_of_what_another_left_is_done_or_left_again() {
    for leaves in [false, true] {
        explore_up_to(3, move || {
            let writer = Writer::new();
            let helper = writer.clone();
            let helper = thread::spawn(move || {
                helper.send();
                helper.help(true);
                helper.wait();
            });
            let reader = writer.clone();
            let reader = thread::spawn(move || reader.help_to_read(leaves));
            writer.run_until_asleep(vec![helper, reader]);
        });
    }
}
