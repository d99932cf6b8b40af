// Which rows to run: --filter and --quick.

extension [Benchmark] {
    /// The rows that `filter`, a regular expression found anywhere in the row's name, and `quick` leave.
    ///
    /// Case does not matter; plain text without special characters is a regular expression that finds itself.
    ///
    /// - Throws: ``SelectionError``.
    package func selected(by filter: String?, quick: Bool) throws(SelectionError) -> [Benchmark] {
        let candidates = quick ? self.filter(\.isQuick) : self
        guard let filter else { return candidates }
        let expression: Regex<AnyRegexOutput>
        do {
            expression = try Regex(filter).ignoresCase()
        } catch {
            throw .invalidFilter(filter, reason: "\(error)")
        }
        let selected = candidates.filter { $0.name.contains(expression) }
        if selected.isEmpty { throw .nothingMatches(filter, available: candidates.map(\.name)) }
        return selected
    }
}

/// Why there is nothing to run.
package enum SelectionError: Error, Equatable, CustomStringConvertible {
    case invalidFilter(String, reason: String)
    case nothingMatches(String, available: [String])

    package var description: String {
        switch self {
        case .invalidFilter(let filter, let reason):
            "--filter '\(filter)' is not a regular expression: \(reason)"
        case .nothingMatches(let filter, let available):
            (["--filter '\(filter)' matches no benchmark. There are:"] + available).joined(separator: "\n  ")
        }
    }
}
