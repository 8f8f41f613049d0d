import ExpertStreaming
import Glibc
import Inference
import ModelFormats
import Testing

@testable import Generation

/// A model file that others cut short while it is in use, and make whole again.
@Suite struct FailingDiskTests {
    private final class Copy {
        let path: String
        let bytes: [UInt8]

        init() throws {
            var template = Array("/tmp/sluice-model-XXXXXX.gguf".utf8CString)
            let descriptor = unsafe mkstemps(&template, 5)
            close(descriptor)
            path = String(
                decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
            let original = try OpenFile(reading: ServedModel.path)
            bytes = try #require(original.read(original.size, at: 0))
            try restore()
        }

        deinit { _ = unsafe unlink(path) }

        func restore() throws { try OpenFile(writing: path).write(bytes, at: 0) }
        func cut() { _ = unsafe truncate(path, 4096) }
    }

    @Test func aFailedReadCostsItsRequestsAndTheSecondInARowTheEngine() async throws {
        let copy = try Copy()
        let served = try ServedModel(path: copy.path)
        // Room for the experts of one token: every prompt reads.
        let scheduler = try served.loading(slots: 2, options: { $0.cache = .multiple(1) })
        try await scheduler.ready()
        let request = served.request(served.prompt(7, count: 30)) { $0.usesPrefixCache = false }
        let whole = try await Answer(scheduler.submit(request)).texts
        func failure() async throws -> String {
            var reason = ""
            do {
                _ = try await Answer(scheduler.submit(request))
            } catch SchedulingError.failed(let found) { reason = found }
            return reason
        }
        for _ in 0..<2 {
            copy.cut()
            #expect(try await failure().contains(copy.path))
            #expect(scheduler.state == .ready)
            // The next one finds the disk well again.
            try copy.restore()
            #expect(try await Answer(scheduler.submit(request)).texts == whole)
        }
        copy.cut()
        #expect(try await failure().contains(copy.path))
        #expect(try await failure().contains(copy.path))
        while scheduler.state == .ready { await Task.yield() }
        guard case .failed(let reason) = scheduler.state else {
            Issue.record("\(scheduler.state)")
            return
        }
        #expect(throws: SchedulingError.failed(reason)) { try scheduler.submit(request) }
        #expect(scheduler.snapshot().failed == 4)
        await scheduler.drain(deadline: 1)
    }
}
