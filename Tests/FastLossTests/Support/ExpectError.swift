// Errors are read, not only caught: their messages are part of what a user gets.

import FastLoss
import Testing

/// Expects `body` to throw a `LossError` with exactly this message, and no error where the message is nil.
func expectError(
    _ message: String?, _ error: LossError? = nil, sourceLocation: SourceLocation = #_sourceLocation,
    _ body: () throws(LossError) -> Void
) {
    do throws(LossError) {
        try body()
        if let message { Issue.record("no error where one says: \(message)", sourceLocation: sourceLocation) }
    } catch let thrown {
        #expect(thrown.description == message, sourceLocation: sourceLocation)
        if let error { #expect(thrown == error, sourceLocation: sourceLocation) }
    }
}
