//! The seeded bugs: what `THALWEG_BUG` may name, what the engine does wrong then, and why one that only
//! the rest of the suite sees, or nothing, is left.

/// A seeded bug.
pub(crate) struct Bug {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
}

const fn bug(name: &'static str, what: &'static str) -> Bug {
    Bug { name, what }
}

pub(crate) const BUGS: &[Bug] = &[
    // The writer.
    bug("no-data-sync", "`synced` is acknowledged without a sync of the data"),
    bug("acknowledged-at-sync-start", "the durable offset moves when the sync starts"),
    bug("mark-at-sync-start", "a place is noted as durable when the sync starts"),
    bug("noted-at-sync-start", "the file of evidence says so when the sync starts"),
    bug("wrong-file-synced", "after a roll only the old file is synced"),
    bug("sealed-file-not-synced", "after a roll only the new file is synced"),
    bug("no-directory-sync", "a new segment's name is never synced"),
    bug("no-directory-sync-after-roll", "the name of a segment is synced only at the start of a life"),
    bug("durable-taken-after-the-sync", "a sync counts for what was written while it ran"),
    bug("failed-sync-is-durable", "the durable offset moves on a failed sync"),
    bug("failed-sync-retried", "a failed sync is tried again"),
    bug("cache-believed-at-open", "memory is believed when a log is opened though a sync had failed"),
    bug("first-sync-believed", "what the first sync says of an earlier life's records isn't proven"),
    bug("tail-not-synced", "an earlier life's files aren't synced with this one's"),
    bug("evidence-before-it-is-durable", "a batch says that what is only written is durable"),
    bug("published-before-it-is-written", "readers see what isn't written yet"),
    bug("half-done-write-not-renewed", "the next write goes over what a failed one left"),
    bug("no-epoch-after-a-half-done-write", "no new epoch after a failed write"),
    bug("roll-loses-a-batch", "the batch that begins a segment is lost"),
    bug("closed-without-sync", "closing doesn't wait for the last sync"),
    bug("zeros-over-the-end", "zeros written ahead begin before the end"),
    bug("a-full-disk-fails-the-partition", "after ENOSPC the partition takes nothing any more"),
    // Recovery.
    bug("header-checksum-not-checked", "a batch header's checksum isn't compared"),
    bug("body-checksum-not-checked", "recovery doesn't compare a body's checksum"),
    bug("reader-checks-no-body", "a reader doesn't compare a body's checksum"),
    bug("file-header-checksum-not-checked", "a file header's checksum isn't compared"),
    bug("epoch-not-checked", "a batch may have a lower epoch than the one before it"),
    bug("evidence-of-an-older-epoch", "what an older life said of durability counts beyond the end"),
    bug("read-on-after-a-hole", "recovery goes on behind a hole"),
    bug("cut-below-the-evidence", "what was durable is cut like a torn tail"),
    bug("valid-bytes-written-over", "the writer goes on where later batches still validate"),
    bug("predecessor-not-checked", "a segment follows any other"),
    bug("empty-segment-refused", "a segment of 0 bytes is damage"),
    bug("set-aside-not-synced", "files set aside may come back"),
    bug("report-says-nothing-of-a-cut", "a cut isn't reported"),
    bug("log-start-of-catalogue-ignored", "recovery doesn't ask where the log starts"),
    bug("retained-rest-is-damage", "what retention left behind is damage"),
    bug("failed-partition-reads-on", "a failed partition is read beyond its durable offset"),
    // The index.
    bug("index-off-by-one", "a lookup begins one entry too late"),
    bug("time-order-assumed", "a lookup by time begins one entry too late"),
    bug("index-of-another-file-trusted", "an index is taken without a look at whose it is"),
    bug("index-hit-not-checked", "an entry is taken without a look at the batch it points to"),
    bug("noted-not-published-forgotten", "an index gathered between note and publish loses a timestamp"),
    // Dropping and deleting.
    bug("unlinked-before-the-log-start-is-durable", "old segments go before the catalogue says so"),
    bug("log-start-not-synced", "the new log start is only written"),
    bug("delete-records-forgotten", "the new log start is only in memory"),
    bug("files-removed-before-the-catalogue-says-so", "a topic's files go before its deletion is durable"),
    bug("topic-deletion-not-synced", "a topic's deletion is only written"),
    bug("rest-of-a-deleted-topic-kept", "files of a deleted topic stay under its name"),
    // The catalogue and the offset log.
    bug("epoch-not-synced", "a life begins before its epoch is durable"),
    bug("topic-not-synced", "a topic is acknowledged when it is written"),
    bug("topic-directories-not-synced", "a topic's directories are never synced"),
    bug("new-partitions-not-synced", "new partitions are acknowledged when they are written"),
    bug("new-keyed-log-without-directory-sync", "the first catalogue's or offset log's name is never synced"),
    bug("keyed-name-not-synced-at-open", "nor is it when it is found"),
    bug("keyed-file-not-synced-before-rename", "a compacted file gets its name before it is durable"),
    bug("compaction-without-directory-sync", "a compacted file's name is never synced"),
    bug("old-file-unlinked-before-the-new-is-durable", "compaction unlinks the old file first"),
    bug("oldest-keyed-file-wins", "of two files the older one counts"),
    bug("compaction-drops-the-newest", "a compacted log lacks a commit"),
    bug("compaction-forgets-epochs", "a compacted log's commits have no epoch"),
    bug("keyed-log-not-synced", "a synced commit, topic or mark isn't"),
    bug("keyed-failed-sync-is-durable", "a failed sync of it counts"),
    bug("keyed-failed-sync-retried", "a failed sync of it is tried again"),
    bug("keyed-cache-believed-at-open", "memory is believed when it is opened"),
    bug("keyed-tail-not-written-again", "a tail of it that memory keeps isn't written again"),
    bug("keyed-tail-not-erased", "a cut tail stays behind the end"),
    bug("keyed-erased-tail-not-synced", "an erased tail may come back in parts"),
    bug("keyed-zeros-over-the-end", "zeros written ahead begin before the end"),
    bug("commit-before-its-records", "a commit is synced before the records it speaks of"),
    bug("epoch-of-a-commit-not-compared", "a commit counts though its record was lost"),
    bug("commits-not-synced-at-close", "closing doesn't sync commits"),
    bug("earlier-commits-without-evidence", "nothing ever proves that an earlier life's commits were durable"),
    bug("lock-released-early", "a second writer may open the directory"),
];
