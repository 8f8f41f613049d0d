/// How experts are read: the rungs of the ladder, best first.
///
/// Left to itself (`auto` on the command line) the streamer takes the first rung that survives a
/// real read of the model's own files.
public enum IOMode: String, Sendable, CaseIterable {
    /// io_uring with O_DIRECT: many reads in flight, nothing left in the page cache.
    case direct
    /// io_uring through the page cache; what was read is dropped from it.
    case buffered
    /// A few threads that pread, with O_DIRECT where the files allow it.
    case pread
}
