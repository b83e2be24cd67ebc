"""Several linear layers over one input, computed in one product: query, key and value; gate and up."""

from torch import Tensor, nn

from hugging_llama.engine.linear.packed import PackedLinear


class JointLinear(nn.Module):
    """Stands where the layer that is called first stood: computes all parts and keeps those of the others.

    `widths` are the parts' out_features, in the order of the calls.
    """

    def __init__(self, product: PackedLinear, widths: list[int]) -> None:
        super().__init__()
        self.product = product
        self.in_features, self.out_features = product.in_features, widths[0]
        self._widths = widths
        self._input: Tensor | None = None
        self._parts: tuple[Tensor, ...] = ()

    @property
    def num_parts(self) -> int:
        return len(self._widths)

    def columns(self, index: int) -> tuple[int, int]:
        """Where part `index` begins in the product's result, and how wide it is."""
        return sum(self._widths[:index]), self._widths[index]

    def forward(self, x: Tensor) -> Tensor:
        parts: tuple[Tensor, ...] = self.product(x).split(self._widths, -1)
        self._input, self._parts = x, parts
        return parts[0]

    def take(self, x: Tensor, index: int) -> Tensor:
        """Part `index` for the input `x`, computed anew if that is not the input of the last call."""
        # as long as it is kept no other tensor can be it
        parts = self._parts if self._input is x else self.product(x).split(self._widths, -1)
        if index == len(self._widths) - 1:
            self._input, self._parts = None, ()
        part: Tensor = parts[index]
        return part


class JointPart(nn.Module):
    """Stands where one of the later layers stood: hands out its part."""

    def __init__(self, joint: JointLinear, index: int, out_features: int) -> None:
        super().__init__()
        self.in_features, self.out_features = joint.in_features, out_features
        self.index = index
        # not as a submodule: it has its place in the model
        self.__dict__["_joint"] = joint

    @property
    def joint(self) -> JointLinear:
        """What computes it."""
        joint: JointLinear = self.__dict__["_joint"]
        return joint

    def forward(self, x: Tensor) -> Tensor:
        return self.joint.take(x, self.index)
