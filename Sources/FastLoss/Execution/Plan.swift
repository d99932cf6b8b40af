// The two steps of every computation: plan and run.

/// A computation whose arguments have been checked and whose scratch arrays have been laid out.
///
/// The initialiser of a plan throws every error of the call, and adds the scratch arrays to a
/// ``ScratchLayout``. Several plans may share a layout. When the layout is reserved, `run` computes. It
/// allocates nothing, and its only error is a probability outside [0, 1]. (The plans of the diagnostics,
/// outside this module, may allocate and fail.)
///
/// A plan holds the addresses of the spans that it was made from, and must not outlive them.
package protocol Plan<Result> {
    associatedtype Result

    /// The name of the computation in messages.
    var name: String { get }

    func run(on execution: Execution) throws(LossError) -> Result
}
