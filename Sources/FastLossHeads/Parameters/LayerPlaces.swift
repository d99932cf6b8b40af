// Where the parameters of one layer lie: in a head's array, or in memory of their own.

import FastLoss

/// Throws unless the size of a layer is in a range in which the parameters of all layers have a count.
package func checkSize(_ name: String, _ size: Int) throws(LossError) {
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
package struct LinearParameters {
    package let weight: MatrixPointer
    package let bias: UnsafePointer<Float>?

    /// - Parameters:
    ///   - weight: `outputs` × `inputs` elements; nil if there are none.
    ///   - bias: `outputs` elements; nil in a layer without bias.
    package init(
        weight: UnsafePointer<Float>?, bias: UnsafePointer<Float>?, outputs: Int, inputs: Int
    ) {
        self.weight = MatrixPointer(
            pointer(UnsafeBufferPointer(start: weight, count: 0)), rows: outputs, columns: inputs)
        self.bias = bias
    }

    init(_ place: LinearPlace, in parameters: UnsafePointer<Float>) {
        weight = MatrixPointer(
            parameters + place.weight.lowerBound, rows: place.outputs, columns: place.inputs)
        bias = place.bias.map { parameters + $0.lowerBound }
    }
}

/// Where the gradients of a fully connected layer go; nil for those that are not wanted.
package struct LinearGradients {
    package let weight: UnsafeMutablePointer<Float>?
    package let bias: UnsafeMutablePointer<Float>?

    package init(weight: UnsafeMutablePointer<Float>?, bias: UnsafeMutablePointer<Float>?) {
        self.weight = weight
        self.bias = bias
    }

    /// Writes the gradients of an empty selection, for the layer with these parameters.
    func fill(_ value: Float, like parameters: LinearParameters, _ writer: GradientWriter) {
        let rows = parameters.weight.rows
        writer.fill(value, weight, count: rows * parameters.weight.columns)
        writer.fill(value, bias, count: rows)
    }

    init(_ place: LinearPlace, in gradients: UnsafeMutablePointer<Float>) {
        weight = gradients + place.weight.lowerBound
        bias = place.bias.map { gradients + $0.lowerBound }
    }
}

/// The parameters of a layer normalisation in memory.
package struct LayerNormParameters {
    let weight: UnsafePointer<Float>
    let bias: UnsafePointer<Float>

    /// - Parameters:
    ///   - weight: an element for each column; nil if there are none.
    ///   - bias: as many.
    package init(weight: UnsafePointer<Float>?, bias: UnsafePointer<Float>?) {
        self.weight = pointer(UnsafeBufferPointer(start: weight, count: 0))
        self.bias = pointer(UnsafeBufferPointer(start: bias, count: 0))
    }

    init(_ place: LayerNormPlace, in parameters: UnsafePointer<Float>) {
        weight = parameters + place.weight.lowerBound
        bias = parameters + place.bias.lowerBound
    }
}

/// Where the gradients of a layer normalisation go; nil for those that are not wanted.
package struct LayerNormGradients {
    let weight: UnsafeMutablePointer<Float>?
    let bias: UnsafeMutablePointer<Float>?

    package init(weight: UnsafeMutablePointer<Float>?, bias: UnsafeMutablePointer<Float>?) {
        self.weight = weight
        self.bias = bias
    }

    init(_ place: LayerNormPlace, in gradients: UnsafeMutablePointer<Float>) {
        weight = gradients + place.weight.lowerBound
        bias = gradients + place.bias.lowerBound
    }
}

/// The array of a head's parameters and that of their gradients, for the overlap check; nil if the caller
/// gives each parameter memory of its own, and has checked it.
package struct ParameterArrays {
    let parameters: NamedMemory?
    let gradients: NamedMemory?

    /// No arrays.
    package init() {
        parameters = nil
        gradients = nil
    }

    /// Throws unless both arrays have `count` elements.
    init(
        _ parameters: UnsafeBufferPointer<Float>, gradients: UnsafeMutableBufferPointer<Float>?,
        named name: String = "gradients.parameters", count: Int
    ) throws(LossError) {
        try checkCount("parameters", parameters.count, is: count)
        if let gradients { try checkCount(name, gradients.count, is: count) }
        self.parameters = NamedMemory("parameters", parameters)
        self.gradients = NamedMemory(name, ifGiven: gradients)
    }
}
