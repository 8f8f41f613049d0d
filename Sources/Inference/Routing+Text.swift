extension Routing: CustomStringConvertible {
    /// As a person would say it, without a capital or a full stop.
    public var description: String {
        let gate =
            switch gating {
            case .softmax: "softmax"
            case .sigmoid: "sigmoid"
            case .softmaxOfChosen: "softmax of the chosen"
            case .sparseMixer: "sparse mixer"
            case .always: "always"
            }
        let isShared = normalises && (gating == .softmax || gating == .sigmoid)
        return gate + (isShared ? ", normalised" : "")
            + (scale == 1 ? "" : ", times \(scale)")
            + (groupCount == 1 ? "" : ", of \(groupsUsed) of \(groupCount) groups")
            + (topP.map { ", top-p \($0)" } ?? "")
    }
}
