import CHost
import Glibc

/// Signals as something to wait for, beside other descriptors.
///
/// To be made on the main thread before there are others: it is what keeps the signals from them.
struct Signals {
    private let descriptor: Int32

    init(_ numbers: [Int32]) throws {
        descriptor = unsafe host_take_signals(numbers, UInt32(numbers.count))
        guard descriptor >= 0 else {
            throw InputError(
                "signals cannot be waited for: \(unsafe String(cString: strerror(-descriptor)))",
                code: Failure.software)
        }
    }

    enum Event: Equatable {
        case readable
        case signal(Int32)
    }

    /// Waits until `other` can be read or has ended, or a signal comes; a signal goes first.
    func wait(for other: Int32) -> Event {
        while true {
            var waiting = [
                pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0),
                pollfd(fd: other, events: Int16(POLLIN), revents: 0),
            ]
            _ = unsafe poll(&waiting, 2, -1)
            let number = host_next_signal(descriptor)
            if number != 0 { return .signal(number) }
            if waiting[1].revents != 0 { return .readable }
        }
    }

    /// A signal that comes within a time, if one does.
    func next(withinMilliseconds time: Int32) -> Int32? {
        var waiting = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        _ = unsafe poll(&waiting, 1, time)
        let number = host_next_signal(descriptor)
        return number == 0 ? nil : number
    }
}
