// What is particular to a terminal: its width, and a line of progress that rewrites itself.

import Foundation

/// The terminal behind the standard streams, if any.
package enum Terminal {
    /// The columns of standard output, or nil if it is not a terminal.
    package static var width: Int? {
        var size = winsize()
        guard isatty(STDOUT_FILENO) == 1, ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0
        else { return nil }
        return Int(size.ws_col)
    }

    /// Writes to standard error.
    package static func warn(_ text: String) {
        FileHandle.standardError.write(Data("\(text)\n".utf8))
    }
}

/// One line on standard error that says what runs; nothing where standard error is not a terminal.
package struct ProgressLine {
    private let isShown = isatty(STDERR_FILENO) == 1

    package init() {}

    package func show(_ text: String) {
        write("\r\u{1B}[K\(text)")
    }

    package func clear() {
        write("\r\u{1B}[K")
    }

    private func write(_ text: String) {
        if isShown { FileHandle.standardError.write(Data(text.utf8)) }
    }
}
