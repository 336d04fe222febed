"""Run in a process of its own, because drivers and the GPU runtime can end a process.

    python gpu_child.py devices             prints the Vulkan devices as JSON
    python gpu_child.py run MODEL FOLDER N  FOLDER/inputs.npz -> outputs.npz and
                                            result.json; N more runs are timed

`export.verify.runtime` starts both and reads what they leave behind. Nothing but numpy
and LiteRT is loaded, so a child takes a fraction of a second. Inputs and outputs are in
the order of the model's main graph, as the CPU runtime has them; the GPU runtime's own
order is that of the signature.

Vulkan is asked through its C interface (Vulkan 1.0: vkCreateInstance,
vkEnumeratePhysicalDevices, vkGetPhysicalDeviceProperties).
"""

import ctypes
import json
import sys
import time
from pathlib import Path

# Offsets in VkPhysicalDeviceProperties: four numbers, the type, then the name.
_TYPE_OFFSET, _NAME_OFFSET, _NAME_LENGTH = 16, 20, 256
_PROPERTIES_BYTES = 4096  # more than the structure's 824
_DEVICE_TYPES = ("other", "integrated", "discrete", "virtual", "cpu")
_INSTANCE_CREATE_INFO = 1
_MOST_DEVICES = 64


class _InstanceInfo(ctypes.Structure):
    """VkInstanceCreateInfo without layers and extensions."""

    _fields_ = [
        ("structure_type", ctypes.c_int),
        ("next", ctypes.c_void_p),
        ("flags", ctypes.c_uint32),
        ("application", ctypes.c_void_p),
        ("layer_count", ctypes.c_uint32),
        ("layers", ctypes.c_void_p),
        ("extension_count", ctypes.c_uint32),
        ("extensions", ctypes.c_void_p),
    ]


def vulkan_devices() -> list[dict]:
    """What the Vulkan loader finds: a name and a type for each device.

    Raises:
        OSError: If there is no Vulkan loader.
    """
    vulkan = ctypes.CDLL("libvulkan.so.1")
    instance, count = ctypes.c_void_p(), ctypes.c_uint32(_MOST_DEVICES)
    info = _InstanceInfo(structure_type=_INSTANCE_CREATE_INFO)
    if vulkan.vkCreateInstance(ctypes.byref(info), None, ctypes.byref(instance)):
        return []  # the loader found no driver that works
    devices = (ctypes.c_void_p * _MOST_DEVICES)()
    vulkan.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), devices)
    found = []
    for device in devices[: count.value]:
        properties = ctypes.create_string_buffer(_PROPERTIES_BYTES)
        vulkan.vkGetPhysicalDeviceProperties(ctypes.c_void_p(device), properties)
        number = int.from_bytes(
            properties[_TYPE_OFFSET : _TYPE_OFFSET + 4], sys.byteorder
        )
        name = properties[_NAME_OFFSET : _NAME_OFFSET + _NAME_LENGTH]
        found.append(
            {
                "name": name.split(b"\0")[0].decode("utf-8", "replace"),
                "type": dict(enumerate(_DEVICE_TYPES)).get(number, "other"),
            }
        )
    return found


def run(model: Path, folder: Path, timed: int) -> None:
    """Compiles a model for the GPU alone, runs it, writes what came out.

    Seconds are those of a run together with reading what it gave, which waits for it.
    """
    import numpy as np
    from ai_edge_litert.compiled_model import CompiledModel
    from ai_edge_litert.hardware_accelerator import HardwareAccelerator
    from ai_edge_litert.interpreter import Interpreter

    compiled = CompiledModel.from_file(
        str(model), hardware_accel=HardwareAccelerator.GPU
    )
    key = compiled.get_signature_by_index(0)["key"]
    graph = Interpreter(model_path=str(model))
    readers = _places(graph.get_input_details(), compiled.get_input_tensor_details(key))
    writers = _places(
        graph.get_output_details(), compiled.get_output_tensor_details(key)
    )
    inputs = compiled.create_input_buffers(0)
    outputs = compiled.create_output_buffers(0)
    with np.load(folder / "inputs.npz", allow_pickle=False) as arrays:
        for number, place in enumerate(readers):
            inputs[place].write(arrays[str(number)])

    def once() -> dict[str, np.ndarray]:
        compiled.run_by_index(0, inputs, outputs)
        results = {}
        for number, place in enumerate(writers):
            details = outputs[place].get_tensor_details()
            shape, dtype = details["shape"], np.dtype(details["dtype"])
            values = outputs[place].read(int(np.prod(shape)), dtype)
            results[str(number)] = values.reshape(shape)
        return results

    np.savez(folder / "outputs.npz", **once())
    times = [time.perf_counter()]
    for _ in range(timed):
        once()
        times.append(time.perf_counter())
    result = {
        "fully_accelerated": compiled.is_fully_accelerated(),
        "seconds": np.diff(times).tolist(),
    }
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")


def _places(graph: list[dict], signature: dict[str, dict]) -> list[int]:
    """Where in the signature's order each end of the main graph is."""
    order = {end["index"]: place for place, end in enumerate(signature.values())}
    return [order[end["index"]] for end in graph]


def main(arguments: list[str]) -> int:
    """Does what the arguments say; an error goes to standard error, with status 3."""
    try:
        if arguments == ["devices"]:
            print(json.dumps(vulkan_devices()))
        else:
            _, model, folder, timed = arguments
            run(Path(model), Path(folder), int(timed))
    except Exception as error:
        print(f"refused: {' '.join(str(error).split())}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
