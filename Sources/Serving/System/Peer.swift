import CHost
import Glibc

/// Who is at the other end of a connection.
public enum Peer: Sendable, Equatable, CustomStringConvertible {
    /// A process of this machine, as the kernel saw it when it connected (SO_PEERCRED).
    case process(user: UInt32, group: UInt32, id: Int32)
    /// An address; whoever is behind it.
    case address(String)

    public var description: String {
        switch self {
        case .process(let user, _, let id): "uid \(user) pid \(id)"
        case .address(let text): text
        }
    }
}

/// What the kernel writes for SO_PEERCRED: `struct ucred` of <sys/socket.h>.
struct PeerCredentials: Sendable {
    var pid: Int32 = 0
    var uid: UInt32 = 0
    var gid: UInt32 = 0
}

/// Which users of this machine may use the service, beside what the mode of the socket lets through.
public struct PeerPolicy: Sendable, Equatable {
    private let users: Set<UInt32>
    private let groups: Set<UInt32>
    private let isOpen: Bool

    /// Everybody who gets through to the socket.
    public static let open = PeerPolicy(users: [], groups: [], isOpen: true)

    private init(users: Set<UInt32>, groups: Set<UInt32>, isOpen: Bool) {
        self.users = users
        self.groups = groups
        self.isOpen = isOpen
    }

    /// - Parameters:
    ///   - users: Names or numbers; nil with `groups` nil lets everybody in.
    ///   - groups: Names or numbers; a user's supplementary groups count.
    /// - Throws: `ServiceError` for a name that nobody has: a policy with a hole must not start.
    public init(users: [String]?, groups: [String]?) throws(ServiceError) {
        unsafe self.init(
            users: try PeerPolicy.numbers(users ?? [], "allowed_users", host_user_id),
            groups: try PeerPolicy.numbers(groups ?? [], "allowed_groups", host_group_id),
            isOpen: users == nil && groups == nil)
    }

    private static func numbers(
        _ names: [String], _ key: String, _ find: (UnsafePointer<CChar>?) -> Int64
    ) throws(ServiceError) -> Set<UInt32> {
        var numbers: Set<UInt32> = []
        for name in names {
            let found = unsafe UInt32(name).map(Int64.init) ?? name.withCString { unsafe find($0) }
            guard found >= 0 else {
                throw ServiceError(
                    "\(key): '\(name)' is not known on this machine; create it, or take it out")
            }
            numbers.insert(UInt32(truncatingIfNeeded: found))
        }
        return numbers
    }

    /// Whether a process of `user`, whose own group is `group`, is let in.
    func allows(user: UInt32, group: UInt32) -> Bool {
        if isOpen || users.contains(user) || groups.contains(group) { return true }
        if groups.isEmpty { return false }
        var all = [UInt32](repeating: 0, count: 1024)
        let count = unsafe host_groups_of_user(user, &all, Int32(all.count))
        return all.prefix(Int(count)).contains(where: groups.contains)
    }

    /// Addresses of TCP are let in: keys are what protects those.
    func allows(_ peer: Peer) -> Bool {
        switch peer {
        case .process(let user, let group, _): allows(user: user, group: group)
        case .address: true
        }
    }
}
