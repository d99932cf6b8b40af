// How the parameters of a head lie in one array, and what they are called in PyTorch's state dict.

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// The parameters of a head or of a whole model, one after the other in one array of floats.
///
/// Each parameter is row-major, as PyTorch stores it. One array for all of them keeps the rest of a training
/// loop short: an optimiser, the norm of the gradient and a checkpoint each walk over it once. The gradient
/// is an array of the same layout.
///
/// The names are those of scGPT's modules. Its whole model adds a prefix, see ``prefixed(_:)``:
///
/// | head | scGPT | prefix |
/// |---|---|---|
/// | ``ExpressionDecoder`` | `ExprDecoder` | `decoder.` |
/// | ``MaskedValueDecoder`` | `MVCDecoder` | `mvc_decoder.` |
/// | ``CellTypeDecoder`` | `ClsDecoder` | `cls_decoder.` |
/// | ``AdversarialDiscriminator`` | `AdversarialDiscriminator` | `grad_reverse_discriminator.` |
/// | ``BatchLabelEncoder`` | `BatchLabelEncoder` | `batch_encoder.` |
public struct ParameterLayout: Equatable, Sendable {
    /// One parameter: its name, its shape, and its place in the array.
    public struct Parameter: Equatable, Sendable {
        /// The name in the state dict.
        public let name: String
        /// The sides, outermost first.
        public let shape: [Int]
        /// The elements of the parameter.
        public let range: Range<Int>
        /// The distribution of the first values.
        public let initialValues: InitialValues
    }

    /// The distribution of a parameter's first values: PyTorch's default for its layer.
    public enum InitialValues: Equatable, Sendable {
        /// Every element is this number.
        case constant(Float)
        /// Uniform between minus and plus this bound.
        case uniform(bound: Float)
        /// Normal with mean 0 and deviation 1.
        case normal
    }

    /// The parameters in the order of the array.
    public private(set) var parameters: [Parameter] = []
    /// The number of elements of all parameters.
    public private(set) var count = 0

    /// A layout without parameters.
    public init() {}

    /// The parameter of this name, if there is one.
    public subscript(name: String) -> Parameter? { parameters.first { $0.name == name } }

    /// Adds a parameter behind the others, and returns its place.
    @discardableResult
    public mutating func add(_ name: String, shape: [Int], initialValues: InitialValues) -> Range<Int> {
        let range = count..<count + shape.reduce(1, *)
        parameters.append(
            Parameter(name: name, shape: shape, range: range, initialValues: initialValues))
        count = range.upperBound
        return range
    }

    /// Adds the parameters of another layout behind the others, and returns the place of all of them.
    @discardableResult
    public mutating func append(_ other: ParameterLayout) -> Range<Int> {
        let start = count
        for parameter in other.parameters {
            add(parameter.name, shape: parameter.shape, initialValues: parameter.initialValues)
        }
        return start..<count
    }

    /// The same layout with this prefix in front of every name.
    public func prefixed(_ prefix: String) -> ParameterLayout {
        var layout = ParameterLayout()
        for parameter in parameters {
            layout.add(
                prefix + parameter.name, shape: parameter.shape, initialValues: parameter.initialValues)
        }
        return layout
    }
}

// MARK: - First values

extension ParameterLayout {
    /// First values of all parameters, drawn as PyTorch draws them by default (not the same numbers).
    public func initialValues(using generator: inout some RandomNumberGenerator) -> [Float] {
        var values: [Float] = []
        values.reserveCapacity(count)
        for parameter in parameters {
            for _ in parameter.range {
                switch parameter.initialValues {
                case .constant(let value): values.append(value)
                case .uniform(let bound): values.append(.random(in: -bound...bound, using: &generator))
                case .normal: values.append(normal(using: &generator))
                }
            }
        }
        return values
    }
}

/// One number of the normal distribution, by the method of Box and Muller.
private func normal(using generator: inout some RandomNumberGenerator) -> Float {
    let radius = (-2 * log(Double.random(in: Double.leastNormalMagnitude...1, using: &generator)))
        .squareRoot()
    return Float(radius * cos(2 * Double.pi * Double.random(in: 0..<1, using: &generator)))
}
