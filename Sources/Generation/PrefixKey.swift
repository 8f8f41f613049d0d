internal import CHost
internal import Inference
internal import ModelFormats

/// On what a sequence's keys and values depend besides its ids: the model and the options.
///
/// Two trainings of one shape differ in their resident weights; the checksum tells them apart.
/// Neither instruction set, threads nor chunks matter, since results do not depend on them.
enum PrefixKey {
    /// The SHA-256 of a text that says it all.
    static func of(
        _ model: ModelDescription, _ options: EngineOptions, residentChecksum: UInt32
    ) -> [UInt8] {
        var text = "\(model.name)\n\(model.architecture.name)\n\(residentChecksum)\n"
        text += "\(model.file.fileSizes)\n\(options.arithmetic) \(options.keyValues)\n"
        text += "\(options.missPolicy) \(options.expertPlanes ?? 0) \(options.expertTopP ?? 0)\n"
        for tensor in model.file.tensors {
            text += "\(tensor.name) \(tensor.shape) \(tensor.format.name)\n"
        }
        var hash = host_sha256()
        unsafe host_sha256_begin(&hash, 0)
        let bytes = Array(text.utf8)
        unsafe bytes.withUnsafeBytes { unsafe host_sha256_add(&hash, $0.baseAddress, $0.count) }
        return unsafe [UInt8](unsafeUninitializedCapacity: 32) { digest, count in
            unsafe host_sha256_end(&hash, digest.baseAddress)
            count = 32
        }
    }
}
