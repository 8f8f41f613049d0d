import ModelFormats

extension Architecture {
    /// GLM-4.5 and 4.6 with experts: sigmoid routing with a correction bias, part of each head
    /// turned. The layers that predict further tokens are left out.
    static let glm4moe = Architecture(
        "glm4moe", routing: Routing(gating: .sigmoid, normalises: true)
    ) { reader, model throws(ModelFileError) in
        model.routing.groupScore = .sumOfTwoLargest
        model.routing.normEpsilon = 1e-20
        try reader.layers(of: &model, norms: .optional(.perHead))
    }
}
