// How the results of the task heads are judged: by the oracle and by the same loops in float, both also for inputs
// that differ in the last bits.

import FastLoss
import FastLossReference

/// What a head gives for one batch: losses or outputs, and gradients.
struct HeadResults {
    var values: [[Double]] = []
    var gradients: [(name: String, elements: [Double])] = []
    /// The least distance of a hidden unit to the kink of its rectifier, relative to the terms of its sum. Near
    /// it, float may see the other side, where the gradient is another.
    var kinkDistance = Double.infinity
    /// Whether all probabilities are far from the clamp of their loss, where it has another gradient.
    var isUnclamped = true
}

/// The numbers that a head reads, as the oracle takes them.
struct HeadNumbers<T: ReferenceScalar> {
    /// The change of each number: 0, or so much of it, up and down by turns.
    var perturbation: T = 0

    func callAsFunction(_ numbers: [Float]) -> [T] {
        numbers.enumerated().map { index, number in
            T(number) * (1 + change(index))
        }
    }

    /// The gradients of logits, which differ in the last bits of 1: each is the difference of a probability
    /// and a label, times a factor.
    func gradients(ofLogits gradients: [T], factor: T) -> [T] {
        gradients.enumerated().map { $1 + (perturbation == 0 ? 0 : factor * change($0)) }
    }

    private func change(_ index: Int) -> T { index * 7 % 5 < 2 ? -perturbation : perturbation }
}

/// The oracle of one call, and the same loops in float, each twice.
struct HeadOracle {
    let truth: HeadResults
    private let naive: HeadResults
    private let perturbed: HeadResults
    /// The error of float with the perturbed inputs. One error may be small by chance: the gradient of a
    /// normalisation over two elements is the difference of nearly equal numbers, and float may round it right.
    private let naivePerturbed: HeadResults

    /// The change of the inputs that shows how their rounding grows.
    private static let perturbation = 0x1p-21
    /// How much more than the two measured errors is allowed: both may happen to be small.
    private static let allowance = 512.0
    /// The relative error that is allowed where both are 0.
    private static let floor = 1e-5

    init(
        truth: (HeadNumbers<Double>) -> HeadResults, naive: (HeadNumbers<Float>) -> HeadResults
    ) {
        self.truth = truth(HeadNumbers())
        self.naive = naive(HeadNumbers())
        perturbed = truth(HeadNumbers(perturbation: Self.perturbation))
        naivePerturbed = naive(HeadNumbers(perturbation: Float(Self.perturbation)))
    }

    /// Judges an array norm-wise.
    ///
    /// - Parameter elements: the array among the results.
    private func judge(
        _ name: String, _ actual: [Double], offset: Double = 0, _ elements: (HeadResults) -> [Double]
    ) throws {
        let (truth, perturbed) = (elements(truth), elements(perturbed))
        let floats = [naive, naivePerturbed].map { elements($0).map { $0 + offset } }
        guard actual.count == truth.count else { throw Wrong("\(name): \(actual.count) elements") }
        // An intermediate result of float that overflows has no bound.
        guard (floats + [truth, perturbed]).joined().allSatisfy(\.isFinite) else { return }
        func distance(_ a: [Double], _ b: [Double]) -> Double {
            zip(a, b).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }.squareRoot()
        }
        let size = truth.reduce(0) { $0 + $1 * $1 }.squareRoot()
        let errors =
            distance(floats[0], truth) + distance(floats[1], perturbed) + distance(perturbed, truth)
        let allowed = Self.allowance * errors + Self.floor * size + 1e-30
        let error = distance(actual, truth)
        guard error <= allowed else {
            throw Wrong("\(name): the error is \(error), allowed \(allowed): \(actual), but \(truth)")
        }
    }

    func judgeValue(_ index: Int, _ name: String, _ actual: [Double]) throws {
        try judge(name, actual) { $0.values[index] }
    }

    /// Judges each gradient, of which a part that is nil was not wanted.
    ///
    /// - Parameter start: what accumulated gradients started from, 0 for those that were overwritten.
    func judgeGradients(_ actual: [[Float]?], start: Float) throws {
        guard truth.kinkDistance > 1e-4 else { return }
        for (index, gradient) in actual.enumerated() {
            guard let gradient else { continue }
            // The rounding of the sum, where the gradient is accumulated.
            let rounding = abs(Double(start)) * 0x1p-22
            try judge(
                "gradient of \(truth.gradients[index].name)", gradient.map { Double($0) - Double(start) },
                offset: rounding
            ) { $0.gradients[index].elements }
        }
    }
}

/// The least distance of y = W x + b to 0, relative to Σ |W x| + |b|, over all elements.
func kinkDistance<T: ReferenceScalar>(_ layer: Reference.Linear<T>, _ input: [T]) -> Double {
    var absolute = layer
    absolute.weight = layer.weight.map { abs($0) }
    absolute.bias = layer.bias.map { $0.map { abs($0) } }
    return zip(layer.value(input: input), absolute.value(input: input.map { abs($0) }))
        .reduce(.infinity) { $1.1 == 0 ? 0 : min($0, Double(abs($1.0) / $1.1)) }
}

/// Walks over the arrays of a head's parameters in the order of its layout, and sets or collects them.
///
/// The oracle's state dict does the same by key paths, which take longer than the oracle itself.
struct ParameterCursor<T: ReferenceScalar> {
    private let source: [T]?
    private(set) var collected: [T] = []
    private var position = 0

    /// A cursor that sets the arrays to these values.
    init(setting values: [T]) { source = values }

    /// A cursor that collects the arrays.
    init() { source = nil }

    mutating func visit(_ array: inout [T]) {
        guard let source else { return collected += array }
        array = Array(source[position..<position + array.count])
        position += array.count
    }

    mutating func visit(_ layer: inout Reference.Linear<T>?) {
        guard layer != nil else { return }
        visit(&layer!.weight)
        if layer!.bias != nil { visit(&layer!.bias!) }
    }

    mutating func visit(_ layer: inout Reference.Linear<T>) {
        var optional: Reference.Linear<T>? = layer
        visit(&optional)
        if let optional { layer = optional }
    }

    mutating func visit(_ norm: inout Reference.LayerNorm<T>) {
        visit(&norm.weight)
        visit(&norm.bias)
    }

    mutating func visit(_ parameters: inout Reference.ExpressionDecoder.Parameters<T>) {
        for index in parameters.fc.layers.indices { visit(&parameters.fc.layers[index]) }
        guard parameters.zeroLogit != nil else { return }
        for index in parameters.fc.layers.indices { visit(&parameters.zeroLogit!.layers[index]) }
    }

    mutating func visit(_ parameters: inout Reference.MaskedValueDecoder.Parameters<T>) {
        visit(&parameters.gene2query)
        visit(&parameters.w)
        visit(&parameters.wZeroLogit)
        visit(&parameters.fc1)
        if parameters.hiddenActivation != nil { visit(&parameters.hiddenActivation!.weight) }
        visit(&parameters.fc2)
    }

    mutating func visit(_ parameters: inout Reference.NormalizedClassifier<T>) {
        for index in parameters.blocks.indices {
            visit(&parameters.blocks[index].linear)
            visit(&parameters.blocks[index].norm)
        }
        visit(&parameters.outLayer)
    }

    mutating func visit(_ parameters: inout Reference.BatchLabelEncoder.Parameters<T>) {
        visit(&parameters.embedding.weight)
        visit(&parameters.norm)
    }
}

/// The sums of the rows that have the same index.
func summed<T: ReferenceScalar>(_ rows: [T], by indices: [Int32], count: Int, width: Int) -> [Double] {
    var sums = [Double](repeating: 0, count: count)
    for (row, index) in indices.enumerated() {
        for i in 0..<width { sums[Int(index) * width + i] += Double(rows[row * width + i]) }
    }
    return sums
}

/// The rows of a table with these indices.
func gathered<T>(_ table: [T], _ indices: [Int32], width: Int) -> [T] {
    indices.flatMap { table[Int($0) * width..<(Int($0) + 1) * width] }
}

extension FuzzInput {
    /// Numbers in [−1, 1), of which some are hostile if `hostile`.
    mutating func small(_ count: Int, hostile: Bool = false) -> [Float] {
        (0..<count).map { _ in hostile && rarely(32) ? number(.mixed) : number(.ordinary) / 8 }
    }

    /// Indices in 0..<`count`, wrong now and then.
    mutating func indices(_ number: Int, below count: Int) -> [Int32] {
        let hostile = rarely(32)
        return (0..<number).map { _ in
            if hostile, rarely(8) { return Int32(bitPattern: word()) }
            return Int32(int(0...max(0, count - 1)))
        }
    }
}
