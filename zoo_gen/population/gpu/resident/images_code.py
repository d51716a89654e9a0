"""The pixels of images in CUDA C++: asked for, and made values of."""

from zoo_gen.population.gpu.resident.product_code import quotient, remainder, row_of
from zoo_gen.population.gpu.resident.program import IMAGES, Program


def images(program: Program) -> str:
    """Turn the pixels that were asked for into values."""
    channels, height, width = program.network.image
    field = program.field(-1)
    together, each = _pixels_of_item(program), _items_of_thread(program)
    stores = []
    for i in range(together):
        values = ["asked0[j]", "asked1[j]"]
        if program.n_classes:
            values = [f"(number{n} < 0 ? 0.0f : number_of_byte({values[n]}, {i}) * scale + offset)" for n in range(2)]
        where = row_of(field, "y", f"x + {i}" if i else "x", "channel")
        stores.append(
            f"at<Word>({program.place['images']} + group * GROUP + {where} * {program.row} + "
            f"pair * (int)sizeof(Word)) = packed({values[0]}, {values[1]});"
        )
    scaled = ""
    if program.n_classes:
        scaled = f"const float scale = a_scale[channel], offset = a_scale[channel + {channels}];"
    newline = "\n            "
    return f"""
    #pragma unroll
    for (int j = 0; j < {each}; ++j) {{  // the images
        {_item(program, numbers="numbers_at")}
            const int channel = first_pixel / {height * width}, y = first_pixel / {width} % {height};
            const int x = first_pixel % {width};
            (void)channel, (void)y, (void)x, (void)number0, (void)number1;
            {scaled}
            {newline.join(stores)}
        }}
    }}
    barrier();
"""


def images_asked(program: Program, *, numbers: str) -> str:
    """Ask for the pixels of the images whose numbers lie at `numbers`, long before they are used."""
    together = _pixels_of_item(program)
    kind = ("u32" if together == 4 else "unsigned char") if program.n_classes else "float"
    size = program.network.image[0] * program.network.image[1] * program.network.image[2]
    loads = [
        f"asked{n}[j] = number{n} < 0 ? 0 : *(const {kind}*)(pixels + (size_t)number{n} * {size} + first_pixel);"
        for n in range(2)
    ]
    return f"""
    #pragma unroll
    for (int j = 0; j < {_items_of_thread(program)}; ++j) {{
        {_item(program, numbers=numbers)}
            {" ".join(loads)}
        }}
    }}
"""


def asked(program: Program) -> str:
    """Declare what is asked for."""
    kind = "u32" if program.n_classes else "float"
    return f"{kind} asked0[{_items_of_thread(program)}], asked1[{_items_of_thread(program)}];"


def _item(program: Program, *, numbers: str) -> str:
    """Say which pixels of which two images thread and j stand for."""
    items = _items(program)
    return f"""const int item = thread + j * THREADS;
        if (item < GROUPS * {items}) {{
            const int group = {quotient("item", items, program.groups)}, pair = item & 3;
            const int first_pixel = {remainder("(item >> 2)", items // 4, program.groups)} * {_pixels_of_item(program)};
            const int number0 = at<int>({numbers} + (group * {IMAGES} + 2 * pair) * 4);
            const int number1 = at<int>({numbers} + (group * {IMAGES} + 2 * pair + 1) * 4);"""


def _pixels_of_item(program: Program) -> int:
    return 4 if program.network.image[2] % 4 == 0 and program.n_classes else 1


def _items(program: Program) -> int:
    """Items of a group: some pixels of two images."""
    channels, height, width = program.network.image
    return channels * height * width // _pixels_of_item(program) * 4


def _items_of_thread(program: Program) -> int:
    return -(-_items(program) * program.groups // program.threads)
