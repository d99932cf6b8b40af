// The two steps of every computation.

/// A computation whose arguments have been checked and whose scratch arrays have been laid out.
///
/// Whoever makes a plan finds everything that can be wrong with a call, and adds the scratch arrays to a ``ScratchLayout``.
/// Several plans may share a layout. Once the layout is reserved, `run` computes. It allocates nothing and cannot fail, except
/// that a probability outside [0, 1] is found on the way. (The diagnostics, outside this module, may allocate and fail.)
///
/// A plan holds the addresses of the spans that it was made from. It must not outlive them.
package protocol Plan<Result> {
    associatedtype Result

    /// What the plan computes, in messages.
    var name: String { get }

    func run(on execution: Execution) throws(LossError) -> Result
}
