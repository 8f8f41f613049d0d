import Glibc
import Inference
import ModelFormats
import Synchronization
import Testing

@testable import Generation

/// Computed prompts on disk.
@Suite struct PrefixCacheTests {
    /// A directory of the test's own, removed with it.
    private final class Folder: Sendable {
        let path: String
        private let lines = Mutex<[String]>([])

        init() {
            var template = Array("/tmp/sluice-prefix-XXXXXX".utf8CString)
            path = unsafe String(cString: mkdtemp(&template)) + "/cache"
        }

        deinit {
            for name in names() { _ = unsafe unlink(path + "/" + name) }
            _ = unsafe rmdir(path)
            _ = unsafe rmdir(String(path.dropLast("/cache".count)))
        }

        func names() -> [String] {
            guard let stream = unsafe opendir(path) else { return [] }
            defer { unsafe closedir(stream) }
            var names: [String] = []
            while let entry = unsafe readdir(stream) {
                let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) {
                    unsafe String(cString: UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self))
                }
                if name != ".", name != ".." { names.append(name) }
            }
            return names.sorted()
        }

        func bytes(_ name: String) -> [UInt8] {
            (try? OpenFile(reading: path + "/" + name)).flatMap { $0.read($0.size, at: 0) } ?? []
        }

        func write(_ bytes: [UInt8], to name: String) throws {
            try OpenFile(writing: path + "/" + name).write(bytes, at: 0)
        }

        func log(_ line: String) { lines.withLock { $0.append(line) } }
        /// What was said of files; how experts are read is said once at the start, too.
        var logged: [String] {
            lines.withLock { $0.filter { !$0.hasPrefix("experts are read by") } }
        }
    }

    private func settings(_ settings: inout SchedulerSettings, _ folder: Folder) {
        settings.prefixCacheDirectory = folder.path
        settings.prefixCacheLeastTokens = 16
        settings.prefixCacheDelaySeconds = 0
        // Some positions: several blocks.
        settings.prefixCacheBlockBytes = 4 << 10
        settings.log = { folder.log($0) }
    }

    /// Answers a request in a process of its own, so to speak, and stops.
    private func answer(
        _ served: ServedModel, _ folder: Folder, _ request: GenerationRequest,
        settings change: (inout SchedulerSettings) -> Void = { _ in },
        options: (inout EngineOptions) -> Void = { _ in }
    ) async throws -> (answer: Answer, counters: PrefixCacheCounters) {
        let scheduler = try served.loading(
            slots: 2,
            settings: {
                settings(&$0, folder)
                change(&$0)
            }, options: options)
        try await scheduler.ready()
        let answer = try await Answer(scheduler.submit(request))
        await scheduler.drain(deadline: 60)
        return (answer, scheduler.snapshot().prefixCache)
    }

    @Test(arguments: KeyValueFormat.allCases, [Arithmetic.int8, .f32])
    func whatWasComputedBeforeARestartIsNotComputedAgain(
        format: KeyValueFormat, arithmetic: Arithmetic
    ) async throws {
        let served = try ServedModel()
        let folder = Folder()
        let options: (inout EngineOptions) -> Void = {
            $0.keyValues = arithmetic == .f32 ? .f16 : format
            $0.arithmetic = arithmetic
            // So that files have several blocks, which chunks do not meet.
            $0.chunk = 7
        }
        // The model's heads do not fit blocks of 32 with q8_0.
        if served.model.headSize % 32 != 0, format == .q8_0 { return }
        let request = served.request(served.prompt(3, count: 60), tokens: 20)
        let first = try await answer(served, folder, request, options: options)
        #expect(first.answer.cachedTokens == 0)
        #expect(first.counters.written == 1 && folder.names().count == 1)
        let second = try await answer(served, folder, request, options: options)
        #expect(second.answer.cachedTokens == 59 && second.counters.restored == 1)
        #expect(second.answer.texts == first.answer.texts)
        // A text that leaves the stored one in the middle of it.
        let other = served.request(
            Array(request.prompt[..<45]) + served.prompt(8, count: 9), tokens: 20)
        let third = try await answer(served, folder, other, options: options)
        #expect(third.answer.cachedTokens == 45)
        let apart = try await answer(served, Folder(), other, options: options)
        #expect(apart.answer.cachedTokens == 0 && apart.answer.texts == third.answer.texts)
        #expect(folder.logged.isEmpty)
    }

    @Test func aSequenceIsWrittenWhileThereIsNothingToDo() async throws {
        let served = try ServedModel()
        let folder = Folder()
        let scheduler = try await served.scheduler(slots: 1) { settings(&$0, folder) }
        let request = served.request(served.prompt(3, count: 40))
        _ = try await Answer(scheduler.submit(request))
        while scheduler.snapshot().prefixCache.written == 0 { await Task.yield() }
        // One that pushes it out of its only slot, and itself again.
        _ = try await Answer(scheduler.submit(served.request(served.prompt(4, count: 40))))
        let again = try await Answer(scheduler.submit(request))
        #expect(again.cachedTokens == 39)
        await scheduler.drain(deadline: 60)
    }

    @Test func damagedForeignAndTruncatedFilesAreRemovedAndNeverTrusted() async throws {
        let served = try ServedModel()
        let source = Folder()
        let request = served.request(served.prompt(3, count: 60), tokens: 4)
        let expected = try await answer(served, source, request).answer.texts
        let name = try #require(source.names().first)
        let whole = source.bytes(name)
        let header = 60 + 4 * (63 + 1 + 1)
        #expect(whole.count > header)
        var cases: [(String, [UInt8])] = [
            ("empty", []), ("short header", Array(whole[..<40])),
            ("truncated", Array(whole.dropLast())), ("longer", whole + [0]),
            ("no such file", Array("#!/bin/sh\n".utf8) + whole.dropFirst(10)),
        ]
        // A bit of everything that the header says, and of the rows.
        for offset in [
            0, 8, 12, 16, 20, 24, 28, 59, 60, 200, header - 1, header, whole.count - 1,
        ] {
            var bytes = whole
            bytes[offset] ^= 1
            cases.append(("bit at \(offset)", bytes))
        }
        for number: UInt8 in [0, 255] {
            // There is no state, which is 0 at 24.
            for offset in [12, 16, 20] + (number == 0 ? [] : [24]) {
                var bytes = whole
                for byte in 0..<4 { bytes[offset + byte] = number }
                cases.append(("number at \(offset) of \(number)s", bytes))
            }
        }
        for (what, bytes) in cases {
            let folder = Folder()
            _ = unsafe mkdir(folder.path, 0o700)
            try folder.write(bytes, to: name)
            try folder.write([1, 2, 3], to: "notes.txt")
            let found = try await answer(served, folder, request) {
                // So that no new one is written.
                $0.prefixCacheLeastTokens = 1000
            }
            #expect(found.answer.texts == expected, "\(what)")
            #expect(found.counters.damaged == 1 && found.counters.files == 0, "\(what)")
            #expect(folder.names() == ["notes.txt"], "\(what)")
            #expect(folder.logged.count == 1 && folder.logged[0].contains(name), "\(what)")
        }
    }

    /// What stands before the damage is used, the rest computed.
    @Test func aDamagedBlockCostsWhatFollowsIt() async throws {
        let served = try ServedModel()
        let folder = Folder()
        let request = served.request(served.prompt(3, count: 60), tokens: 4)
        let expected = try await answer(served, folder, request).answer.texts
        let name = try #require(folder.names().first)
        var bytes = folder.bytes(name)
        bytes[bytes.count - 1] ^= 0x40
        try folder.write(bytes, to: name)
        let found = try await answer(served, folder, request)
        let cached = try #require(found.answer.cachedTokens)
        #expect((1..<59).contains(cached), "\(cached) of \(folder.logged)")
        #expect(found.answer.texts == expected && found.counters.damaged == 1)
    }

    @Test func otherOptionsAndOtherContextsDoNotMeet() async throws {
        let served = try ServedModel()
        let folder = Folder()
        let request = served.request(served.prompt(3, count: 60), tokens: 4)
        _ = try await answer(served, folder, request)
        // The same rows would mean something else.
        let other = try await answer(
            served, folder, request, options: { $0.arithmetic = .f32 })
        #expect(other.answer.cachedTokens == 0 && other.counters.damaged == 1)
        // A context that the file's last block does not fit is no reason to trap.
        let short = served.request(Array(request.prompt[..<50]), tokens: 4)
        _ = try await answer(served, folder, request)
        let fitting = try await answer(
            served, folder, short, options: { $0.context = 55 })
        #expect(try fitting.answer.texts[0] == served.alone(short).text)
    }

    @Test func theOldestFilesGoWhenThereAreTooMany() async throws {
        let served = try ServedModel()
        let folder = Folder()
        let prompts = (1...4).map { served.request(served.prompt($0, count: 50), tokens: 2) }
        let first = try await answer(served, folder, prompts[0])
        let size = first.counters.bytes
        #expect(size > 0)
        func limited(_ request: GenerationRequest) async throws -> (Answer, PrefixCacheCounters) {
            try await answer(served, folder, request) { $0.prefixCacheBytes = 2 * size + size / 2 }
        }
        _ = try await limited(prompts[1])
        // Used again, so the second is the oldest now.
        #expect(try await limited(prompts[0]).0.cachedTokens == 49)
        let third = try await limited(prompts[2]).1
        #expect(
            third.evicted == 1 && third.files == 2 && third.bytes <= 2 * size + size / 2,
            "\(third), \(size), \(folder.logged)")
        #expect(folder.names().count == 2)
        #expect(try await limited(prompts[0]).0.cachedTokens == 49)
        // Not enough for one: nothing is written, everything goes.
        let none = try await answer(served, folder, prompts[3]) { $0.prefixCacheBytes = size / 2 }
        #expect(none.counters.files == 0 && folder.names().isEmpty)
    }

    @Test func aLongerTextReplacesTheOneItContinues() async throws {
        let served = try ServedModel()
        let folder = Folder()
        let prompt = served.prompt(3, count: 80)
        _ = try await answer(served, folder, served.request(Array(prompt[..<40]), tokens: 1))
        let one = folder.names()
        _ = try await answer(served, folder, served.request(prompt, tokens: 1))
        #expect(folder.names().count == 1 && folder.names() != one)
        // Hardly longer than what is there: not worth writing.
        let again = try await answer(served, folder, served.request(prompt, tokens: 8))
        #expect(again.counters.written == 0)
    }

    /// A state is good for texts that go on from its last position, and for no others.
    @Test(arguments: ServedModel.statefulPaths, Arithmetic.allCases)
    func aStateIsRestoredForWhatContinuesIt(path: String, arithmetic: Arithmetic) async throws {
        let served = try ServedModel(path: path)
        let folder = Folder()
        let options: (inout EngineOptions) -> Void = {
            $0.arithmetic = arithmetic
            $0.chunk = 7
        }
        let request = served.request(served.prompt(3, count: 40), tokens: 9)
        let first = try await answer(served, folder, request, options: options)
        #expect(first.counters.written == 1)
        let generated = try served.alone(request, choice: 0, options).tokens
        let text = request.prompt + generated.dropLast()
        let next = served.request(text + served.prompt(8, count: 5), tokens: 9)
        let expected = try served.alone(next, choice: 0, options).text
        // Nothing more is written.
        let once: (inout SchedulerSettings) -> Void = { $0.prefixCacheLeastTokens = 1000 }
        let second = try await answer(served, folder, next, settings: once, options: options)
        #expect(second.answer.cachedTokens == text.count && second.counters.restored == 1)
        #expect(second.answer.texts == [expected])
        // The same prompt again, and one that leaves the text at its end.
        let left = served.request(text.dropLast() + served.prompt(9, count: 5), tokens: 9)
        for other in [request, left] {
            let found = try await answer(
                served, folder, other, settings: once, options: options)
            #expect(found.answer.cachedTokens == 0 && found.counters.restored == 0)
            #expect(try found.answer.texts == [served.alone(other, choice: 0, options).text])
        }
        // A state that is damaged costs all of it.
        let name = try #require(folder.names().first)
        var bytes = folder.bytes(name)
        bytes[bytes.count - 1] ^= 0x40
        try folder.write(bytes, to: name)
        let damaged = try await answer(served, folder, next, options: options)
        #expect(damaged.answer.cachedTokens == 0 && damaged.counters.damaged == 1)
        #expect(damaged.answer.texts == [expected])
    }

    @Test func aDirectoryHasOneUser() async throws {
        let served = try ServedModel()
        let folder = Folder()
        let scheduler = try await served.scheduler(slots: 1) { settings(&$0, folder) }
        let request = served.request(served.prompt(3, count: 40))
        let second = try await answer(served, folder, request)
        #expect(second.counters == PrefixCacheCounters() && folder.names().isEmpty)
        #expect(folder.logged.contains { $0.contains("one of its own") })
        await scheduler.drain(deadline: 60)
    }

    @Test func aDirectoryThatCannotBeMadeIsDoneWithout() async throws {
        let served = try ServedModel()
        let folder = Folder()
        let request = served.request(served.prompt(3, count: 40))
        let found = try await answer(served, folder, request) {
            $0.prefixCacheDirectory = "/proc/self/no/such/place"
        }
        #expect(try found.answer.texts[0] == served.alone(request).text)
        #expect(folder.logged.contains { $0.contains("/proc/self/no/such/place") })
    }
}
