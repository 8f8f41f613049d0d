/// The names of one scope while it runs.
///
/// Which names a scope holds is known beforehand (Scopes.swift), as in the Python functions that Jinja compiles: a name that a
/// scope sets anywhere is its own from the beginning.
final class Frame {
    let parent: Frame?
    private var values: [String: Value] = [:]

    init(parent: Frame?) { self.parent = parent }

    /// The value of a name, `.missing` where it has none yet; nil if no scope around has the name.
    subscript(name: String) -> Value? {
        var frame: Frame? = self
        while let some = frame {
            if let value = some.values[name] { return value }
            frame = some.parent
        }
        return nil
    }

    func set(_ name: String, to value: Value) { values[name] = value }

    /// After its scope has ended a name has no value, even for macros that outlive the scope.
    func leave() {
        for name in values.keys { values[name] = .missing }
    }

    /// Lets go of everything, so that circles of macros and their frames are broken.
    func empty() { values = [:] }
}
