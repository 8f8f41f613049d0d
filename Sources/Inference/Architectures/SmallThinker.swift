import ModelFormats

extension Architecture {
    /// SmallThinker (arXiv 2507.20984): the router reads what enters the layer, before attention;
    /// ReGLU experts; in every fourth layer attention sees everything and nothing is turned, in the
    /// others it has a window.
    static let smallthinker = Architecture(
        "smallthinker", routing: Routing(gating: .sigmoid, normalises: true)
    ) { reader, model throws(ModelFileError) in
        model.activation = .relu
        let window = try reader.window()
        let period = 4
        try reader.layers(
            of: &model, norms: .none, routesEarly: true,
            adjust: { _, layer, attention in
                guard let window else { return }
                let isGlobal = layer % period == 0
                attention.rotates = !isGlobal
                attention.window = isGlobal ? nil : window
            })
    }
}
