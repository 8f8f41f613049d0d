internal import CHost
internal import Glibc
internal import Inference
internal import Tokenization

/// The thread that makes an engine and runs it.
struct EngineThread {
    let core: SchedulerCore
    let model: ModelDescription
    let options: EngineOptions
    let plan: MemoryPlan
    let tokenizer: Tokenizer

    private final class Box {
        let thread: EngineThread

        init(_ thread: EngineThread) { self.thread = thread }
    }

    /// Runs on a thread of its own until the scheduler is stopped. Nobody joins it.
    static func start(_ thread: EngineThread) {
        var handle: UInt64 = 0
        let box = unsafe Unmanaged.passRetained(Box(thread))
        let error = unsafe host_thread_start(
            &handle,
            { context in
                pthread_detach(pthread_self())
                unsafe Unmanaged<Box>.fromOpaque(context!).takeRetainedValue().thread.run()
            }, box.toOpaque(), "sluice-engine", -1)
        if error != 0 {
            unsafe box.release()
            thread.core.close(
                .failed(
                    "the kernel refused a thread for the engine (errno \(error)); raise the limit on "
                        + "processes (ulimit -u, TasksMax=)"))
            thread.core.giveUp()
        }
    }

    private func run() {
        do {
            try runEngine()
            core.close(.stopping)
        } catch {
            core.close(.failed("\(error)"))
        }
        core.giveUp()
    }

    /// Until it is to end; the engine is gone afterwards.
    private func runEngine() throws {
        let core = core
        var engine = try Engine(model: model, options: options, plan: plan) {
            core.setProgress($0)
        }
        core.settings.log(
            "experts are read by \(engine.ioMode) (\(engine.ioModeReason)), computed with "
                + "\(engine.instructionSet)")
        // A service that says it is ready has computed a token.
        try engine.prefill([tokenizer.beginningOfSequence ?? 0], from: 0)
        let store = EngineLoop.store(
            settings: core.settings, model: model, options: options, engine: engine)
        let loop = EngineLoop(core: core, engine: engine, tokenizer: tokenizer, store: store)
        core.setReady()
        try loop.run()
    }
}
