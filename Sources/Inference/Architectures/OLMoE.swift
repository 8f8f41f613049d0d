import ModelFormats

extension Architecture {
    /// OLMoE: norms over the whole query and key projections, gate weights not normalised.
    static let olmoe = Architecture("olmoe") { reader, model throws(ModelFileError) in
        try reader.layers(of: &model, norms: .required(.wholeProjection))
    }
}
