// Templates of any text over a fixed conversation: an error in one line, or a rendering within its limits.

import ChatTemplates
import JSONTree

private let variables: JSONObject = {
    let text = """
        {"messages":[{"role":"system","content":"Be <b>kind</b>."},{"role":"user","content":"Hi 世界 'x'\\n"},
        {"role":"assistant","content":null,"tool_calls":[{"function":{"name":"f","arguments":{"a":[1,2.5,true,null]}}}]},
        {"role":"tool","content":[{"type":"text","text":"blue"}]}],
        "tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}],
        "add_generation_prompt":true,"bos_token":"<s>","eos_token":"</s>"}
        """
    guard let object = (try? JSON(parsing: text))?.object else { fatalError("no variables") }
    return object
}()

private let limits: RenderLimits = {
    var limits = RenderLimits()
    limits.steps = 100_000
    limits.bytes = 16 << 20
    limits.outputBytes = 1 << 20
    return limits
}()

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOneInput(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let text = String(decoding: UnsafeBufferPointer(start: data, count: count), as: UTF8.self)
    do throws(TemplateError) {
        let rendering = try ChatTemplate(text).render(variables, now: 1_721_998_805, limits: limits)
        precondition(rendering.utf8.count <= limits.outputBytes)
    } catch {
        precondition(error.line >= 1)
        precondition(!error.description.utf8.contains { $0 < 32 })
    }
    return 0
}
