//! The twins for async code of calls that block. They wait on the engine's own threads (`calls.rs`) while the task's
//! thread goes on; in an engine without threads the poll itself blocks.
//!
//! A call begins with the first poll, and is then carried out though its future is dropped.

#[cfg(all(test, feature = "sim"))]
mod tests;

use std::future::Future;

use super::{Engine, OffsetReset, Partition, ResetTo};
use crate::config::{Acks, TopicConfig};
use crate::error::Result;
use crate::partition::Driven;

impl Engine {
    /// The twin of [`create_topic`](Engine::create_topic) for async code. The topic is made even if the future is
    /// dropped after its first poll; this holds for all twins of the engine's calls.
    ///
    /// # Errors
    /// As [`create_topic`](Engine::create_topic).
    pub fn create_topic_async(
        &self,
        name: &str,
        config: TopicConfig,
    ) -> impl Future<Output = Result<()>> + Send + Unpin + use<> {
        let name = name.to_owned();
        self.call(move |engine| engine.create_topic(&name, config))
    }

    /// The twin of [`ensure_topic`](Engine::ensure_topic) for async code.
    ///
    /// # Errors
    /// As [`ensure_topic`](Engine::ensure_topic).
    pub fn ensure_topic_async(
        &self,
        name: &str,
        config: TopicConfig,
    ) -> impl Future<Output = Result<bool>> + Send + Unpin + use<> {
        let name = name.to_owned();
        self.call(move |engine| engine.ensure_topic(&name, config))
    }

    /// The twin of [`alter_topic`](Engine::alter_topic) for async code.
    ///
    /// # Errors
    /// As [`alter_topic`](Engine::alter_topic).
    pub fn alter_topic_async(
        &self,
        name: &str,
        config: TopicConfig,
    ) -> impl Future<Output = Result<()>> + Send + Unpin + use<> {
        let name = name.to_owned();
        self.call(move |engine| engine.alter_topic(&name, config))
    }

    /// The twin of [`delete_topic`](Engine::delete_topic) for async code.
    ///
    /// # Errors
    /// As [`delete_topic`](Engine::delete_topic).
    pub fn delete_topic_async(&self, name: &str) -> impl Future<Output = Result<()>> + Send + Unpin + use<> {
        let name = name.to_owned();
        self.call(move |engine| engine.delete_topic(&name))
    }

    /// The twin of [`reset_group`](Engine::reset_group) for async code.
    ///
    /// # Errors
    /// As [`reset_group`](Engine::reset_group).
    pub fn reset_group_async(
        &self,
        group: &str,
        topic: &str,
        to: ResetTo,
        dry_run: bool,
    ) -> impl Future<Output = Result<Vec<OffsetReset>>> + Send + Unpin + use<> {
        let (group, topic) = (group.to_owned(), topic.to_owned());
        self.call(move |engine| engine.reset_group(&group, &topic, to, dry_run))
    }

    /// The twin of [`delete_group`](Engine::delete_group) for async code.
    ///
    /// # Errors
    /// As [`delete_group`](Engine::delete_group).
    pub fn delete_group_async(&self, group: &str) -> impl Future<Output = Result<()>> + Send + Unpin + use<> {
        let group = group.to_owned();
        self.call(move |engine| engine.delete_group(&group))
    }

    /// The twin of [`copy_group`](Engine::copy_group) for async code.
    ///
    /// # Errors
    /// As [`copy_group`](Engine::copy_group).
    pub fn copy_group_async(&self, from: &str, to: &str) -> impl Future<Output = Result<usize>> + Send + Unpin + use<> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.call(move |engine| engine.copy_group(&from, &to))
    }

    /// The twin of [`flush`](Engine::flush) for async code: of everything sent before this call.
    ///
    /// # Errors
    /// As [`flush`](Engine::flush).
    pub fn flush_async(&self) -> impl Future<Output = Result<()>> + Send + Unpin + use<> {
        Driven::new(&self.core.env, Box::pin(self.core.settled(Acks::Written)))
    }

    /// The twin of [`sync`](Engine::sync) for async code: of everything sent before this call.
    ///
    /// # Errors
    /// As [`sync`](Engine::sync).
    pub fn sync_async(&self) -> impl Future<Output = Result<()>> + Send + Unpin + use<> {
        Driven::new(&self.core.env, Box::pin(self.core.settled(Acks::Synced)))
    }

    /// The twin of [`close`](Engine::close) for async code. Dropping the last handle instead blocks until everything
    /// is synced.
    ///
    /// # Errors
    /// As [`close`](Engine::close).
    pub fn close_async(&self) -> impl Future<Output = Result<()>> + Send + Unpin + use<> {
        self.call(Engine::close)
    }

    fn call<R: Send + 'static, F: FnOnce(&Engine) -> Result<R> + Send + 'static>(
        &self,
        call: F,
    ) -> impl Future<Output = Result<R>> + Send + Unpin + use<R, F> {
        let engine = self.clone();
        self.core.calls.make(move || call(&engine))
    }
}

impl Partition {
    /// The twin of [`delete_records`](Partition::delete_records) for async code. Once polled it is carried out though
    /// the future is dropped.
    ///
    /// # Errors
    /// As [`delete_records`](Partition::delete_records).
    pub fn delete_records_async(&self, offset: u64) -> impl Future<Output = Result<()>> + Send + Unpin + use<> {
        let partition = self.clone();
        self.engine.call(move |_| partition.delete_records(offset))
    }
}
