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

    /// What one does who waits; with `leaves`, he can't do all of it.
    fn help(&self, leaves: bool) {
        if let Some(mut work) = self.shared.take() {
            *work += self.news.swap(0, loom::sync::atomic::Ordering::SeqCst);
            self.wake_if(self.shared.give_back(work, leaves, || self.has_news()));
        }
    }

    /// What its thread does, until it sleeps: then nothing is undone, or it was called.
    fn run_until_asleep(&self) {
        loop {
            if (self.shared.is_left() || self.has_news())
                && let Some(mut work) = self.shared.take()
            {
                self.shared.look();
                *work += self.news.swap(0, loom::sync::atomic::Ordering::SeqCst);
            }
            if self.shared.may_sleep(|| self.has_news()) {
                return;
            }
            loom::thread::yield_now();
        }
    }

    fn check_nothing_is_forgotten(&self) {
        let woken = self.woken.load(loom::sync::atomic::Ordering::SeqCst);
        assert!(woken || !self.has_news(), "asleep, and nobody tells it of the news");
        assert!(woken || !self.shared.is_left(), "asleep, and nobody tells it of what was left");
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
            writer.run_until_asleep();
            helper.join().unwrap();
            writer.check_nothing_is_forgotten();
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
        let sender = thread::spawn(move || sender.send());
        writer.run_until_asleep();
        helper.join().unwrap();
        sender.join().unwrap();
        writer.check_nothing_is_forgotten();
    });
}
