// How the parameters of the task heads are found by their names in PyTorch's state dict.

extension Reference {
    /// The parameters of a head or of one of its layers: plain arrays in PyTorch's layout.
    ///
    /// A gradient with respect to the parameters is a value of the same type.
    ///
    /// The names are those of scGPT's modules. In the state dict of its whole model they carry a prefix:
    ///
    /// | head | upstream | prefix |
    /// |---|---|---|
    /// | `ExpressionDecoder` | `ExprDecoder` | `decoder.` |
    /// | `MaskedValueDecoder` | `MVCDecoder` | `mvc_decoder.` |
    /// | `CellTypeDecoder` | `ClsDecoder` | `cls_decoder.` |
    /// | `AdversarialDiscriminator` | `AdversarialDiscriminator` | `grad_reverse_discriminator.` |
    /// | `BatchLabelEncoder` | `BatchLabelEncoder` | `batch_encoder.` |
    public protocol HeadParameters<Scalar>: Equatable, Sendable {
        /// The type of every element.
        associatedtype Scalar: ReferenceScalar

        /// Every array under its name, in the order of the state dict.
        var stateDict: [(name: String, array: WritableKeyPath<Self, [Scalar]>)] { get }
    }
}

extension Reference.HeadParameters {
    /// The arrays of one part, whose names follow the part's own: `part.name`.
    @inlinable
    func arrays<Part: Reference.HeadParameters<Scalar>>(
        named name: String, of part: WritableKeyPath<Self, Part>
    ) -> [(name: String, array: WritableKeyPath<Self, [Scalar]>)] {
        self[keyPath: part].stateDict.map { ("\(name).\($0.name)", part.appending(path: $0.array)) }
    }
}
