// swift-tools-version: 6.2

import PackageDescription

/// What every Swift target of this package is compiled with.
///
/// `Lifetimes` lets a struct hold `Span`s (the objective's inputs and gradients) without copying them.
let swiftSettings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableExperimentalFeature("Lifetimes"),
]

/// Whether another package fetched this one.
///
/// Swift Package Manager reads the manifest of a fetched package from its repository, as `/Package.swift`, and
/// then from a working copy in `.build/checkouts`, Xcode from one in `SourcePackages/checkouts`. There this
/// package offers its libraries alone, so that dependents do not fetch and pin what only the benchmarks need.
let isFetched: Bool = {
    let folders = Context.packageDirectory.split(separator: "/").dropLast().suffix(2)
    return Context.packageDirectory == "/" || folders.elementsEqual([".build", "checkouts"])
        || folders.elementsEqual(["SourcePackages", "checkouts"])
}()

let package = Package(
    name: "FastLoss",
    products: [
        .library(name: "FastLoss", targets: ["FastLoss"]),
        .library(name: "FastLossHeads", targets: ["FastLossHeads", "FastLossCheckpoints"]),
        .library(name: "FastLossDiagnostics", targets: ["FastLossDiagnostics"]),
        // The library of C and C++ programs. scripts/install installs it as libfastloss.so, with fastloss.h.
        .library(name: "FastLossC", type: .dynamic, targets: ["FastLossC"]),
    ],
    targets: [
        .systemLibrary(
            name: "COpenBLAS",
            pkgConfig: "openblas",
            providers: [.apt(["libopenblas-dev"])]
        ),
        .systemLibrary(
            name: "CLAPACKE",
            pkgConfig: "lapacke",
            providers: [.apt(["liblapacke-dev"])]
        ),
        .target(name: "CFastLossKernels"),
        .target(name: "CFastLossThreads"),
        .target(
            name: "FastLoss",
            dependencies: ["COpenBLAS", "CFastLossKernels", "CFastLossThreads"],
            swiftSettings: swiftSettings
        ),
        .target(
            name: "FastLossHeads",
            dependencies: ["FastLoss", "CFastLossKernels"],
            swiftSettings: swiftSettings
        ),
        // Checkpoints of the heads. Apart, because the files need Foundation, and the C library links the heads.
        .target(
            name: "FastLossCheckpoints",
            dependencies: ["FastLossHeads"],
            swiftSettings: swiftSettings
        ),
        .target(
            name: "FastLossDiagnostics",
            dependencies: ["FastLoss", "CLAPACKE"],
            swiftSettings: swiftSettings
        ),
        // The C interface: its headers, and the Swift functions that implement them.
        .target(name: "CFastLoss", exclude: ["packaging"]),
        .target(
            name: "FastLossC",
            dependencies: ["FastLoss", "FastLossHeads", "CFastLoss", "CFastLossThreads"],
            swiftSettings: swiftSettings
        ),
    ]
)

if !isFetched {
    package.dependencies += [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.5.0")
    ]
    package.products += [
        .executable(name: "Benchmarks", targets: ["Benchmarks"]),
        .executable(name: "TrainIntegration", targets: ["TrainIntegration"]),
    ]
    package.targets += [
        .target(name: "FastLossReference", swiftSettings: swiftSettings),
        .target(name: "CMachineCeilings", path: "Benchmarks/CMachineCeilings"),
        // The real cells, and what training on them needs. Apart from the benchmarks, because no program can
        // import an executable.
        .target(
            name: "BenchmarkData", dependencies: ["FastLossCheckpoints", "FastLossHeads"],
            path: "Benchmarks/Data", resources: [.copy("pbmc68k")], swiftSettings: swiftSettings),
        .executableTarget(
            name: "Benchmarks",
            dependencies: [
                "BenchmarkData",
                "CMachineCeilings",
                "COpenBLAS",
                "FastLoss",
                "FastLossHeads",
                "FastLossReference",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            path: "Benchmarks",
            exclude: ["Baselines", "CMachineCeilings", "Data", "Python", "Results"],
            swiftSettings: swiftSettings
        ),
        // The example: scGPT's integration objective trained on the real cells.
        .executableTarget(
            name: "TrainIntegration",
            dependencies: [
                "BenchmarkData",
                "FastLoss",
                "FastLossCheckpoints",
                "FastLossDiagnostics",
                "FastLossHeads",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            resources: [.copy("Report/report.html")],
            swiftSettings: swiftSettings
        ),
        // Turns random bytes into calls and compares the results with the reference.
        .executableTarget(
            name: "Fuzzing", dependencies: ["FastLoss", "FastLossHeads", "FastLossReference", "RankThreads"],
            path: "Tests/Fuzzing",
            swiftSettings: swiftSettings),
        // Ranks as threads, for the tests and the fuzzer.
        .target(
            name: "RankThreads", dependencies: ["FastLoss"], path: "Tests/RankThreads",
            swiftSettings: swiftSettings),
        // Only linked into the tests: it stands in for malloc.
        .target(name: "CAllocationCounter", path: "Tests/CAllocationCounter"),
        .testTarget(
            name: "FastLossTests",
            dependencies: [
                "FastLoss", "FastLossHeads", "FastLossCheckpoints", "FastLossDiagnostics",
                "FastLossReference", "BenchmarkData", "Benchmarks", "TrainIntegration", "CAllocationCounter",
                "RankThreads",
            ],
            resources: [.copy("Goldens")],
            swiftSettings: swiftSettings
        ),
    ]
}

// FastLossMPI needs MPI's development files, which few machines have. A trait would leave an empty product where it
// is off, and have every build look for them; so the target exists only if the environment asks for it.
if Context.environment["FASTLOSS_MPI"] != nil {
    package.products.append(.library(name: "FastLossMPI", targets: ["FastLossMPI"]))
    package.targets += [
        .systemLibrary(name: "CMPI", pkgConfig: "mpi", providers: [.apt(["libopenmpi-dev"])]),
        .target(name: "FastLossMPI", dependencies: ["FastLoss", "CMPI"], swiftSettings: swiftSettings),
    ]
    if !isFetched {
        package.products.append(.executable(name: "MPICheck", targets: ["MPICheck"]))
        package.targets.append(
            .executableTarget(
                name: "MPICheck", dependencies: ["FastLoss", "FastLossMPI"], path: "Tests/FastLossMPITests",
                exclude: ["mpi_ranks.c"], swiftSettings: swiftSettings))
    }
}
