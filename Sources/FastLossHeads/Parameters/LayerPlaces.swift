// Where the parameters of one layer lie in a head's array, and the pointers that a plan makes of that.

import FastLoss

/// Throws unless the size of a layer is in a range in which the parameters of all layers have a count.
func checkSize(_ name: String, _ size: Int) throws(LossError) {
    guard (0...1 << 28).contains(size) else {
        throw .invalidParameter(name: name, value: Double(size), requirement: "between 0 and 2²⁸")
    }
}

/// The place of a fully connected layer's parameters: y = W·x + b, with W of `outputs` × `inputs`.
struct LinearPlace: Equatable, Sendable {
    let inputs: Int
    let outputs: Int
    let weight: Range<Int>
    /// Nil in a layer without bias.
    let bias: Range<Int>?
}

/// The place of a layer normalisation's parameters.
struct LayerNormPlace: Equatable, Sendable {
    let weight: Range<Int>
    let bias: Range<Int>
}

extension ParameterLayout {
    /// Adds a fully connected layer, with PyTorch's bound 1/√inputs for the first values.
    mutating func addLinear(
        _ name: String, inputs: Int, outputs: Int, hasBias: Bool = true
    ) -> LinearPlace {
        let initialValues = InitialValues.uniform(bound: inputs > 0 ? 1 / Float(inputs).squareRoot() : 0)
        return LinearPlace(
            inputs: inputs, outputs: outputs,
            weight: add("\(name).weight", shape: [outputs, inputs], initialValues: initialValues),
            bias: hasBias ? add("\(name).bias", shape: [outputs], initialValues: initialValues) : nil)
    }

    /// Adds a layer normalisation of rows of `width` elements.
    mutating func addLayerNorm(_ name: String, width: Int) -> LayerNormPlace {
        LayerNormPlace(
            weight: add("\(name).weight", shape: [width], initialValues: .constant(1)),
            bias: add("\(name).bias", shape: [width], initialValues: .constant(0)))
    }
}

/// The parameters of a fully connected layer in memory.
struct LinearParameters {
    let weight: MatrixPointer
    let bias: UnsafePointer<Float>?

    init(_ place: LinearPlace, in parameters: UnsafePointer<Float>) {
        weight = MatrixPointer(
            parameters + place.weight.lowerBound, rows: place.outputs, columns: place.inputs)
        bias = place.bias.map { parameters + $0.lowerBound }
    }
}

/// Where the gradients of a fully connected layer go.
struct LinearGradients {
    let weight: UnsafeMutablePointer<Float>
    let bias: UnsafeMutablePointer<Float>?

    init(_ place: LinearPlace, in gradients: UnsafeMutablePointer<Float>) {
        weight = gradients + place.weight.lowerBound
        bias = place.bias.map { gradients + $0.lowerBound }
    }
}
