// How long the tests of determinism and endurance run: seconds in every run, minutes in scripts/verify.

import Foundation

enum TestLength {
    /// Whether `FASTLOSS_LONG_TESTS=1` asks for the long forms.
    static let isLong = ProcessInfo.processInfo.environment["FASTLOSS_LONG_TESTS"] == "1"

    /// How often one call is repeated with one number of workers.
    static let repetitions = isLong ? 1_000 : 2

    /// How often the small shapes are.
    static let smallRepetitions = isLong ? 1_000 : 1

    /// How many minutes concurrent callers may take. All of them run at the same time, and a hang takes for ever.
    static let mostMinutes = isLong ? 120 : 5

    /// How often each call is made in the search for leaks.
    static let callsOfEach = 100_000

    /// How long threads mix calls.
    static let soak = Duration.seconds(isLong ? 600 : 2)
}
