"""A whole program in CUDA C++: set up a model, take its steps, or judge it."""

from importlib.resources import files

from zoo_gen.population.gpu.resident import backward_code, forward_code, images_code, sums_code
from zoo_gen.population.gpu.resident.program import CODES, IMAGES, Program
from zoo_gen.population.optimizers import BETA1, BETA2, EPSILON, SMOOTHING
from zoo_gen.population.random import DROPOUT_MIX, DROPOUT_STEP, SPLITMIX

PRECISIONS = {"bfloat16": 0, "tf32": 1, "float32": 2}
ENTRY = "population"
_AT_ONCE = 4  # parameters of a thread, whose numbers are asked for together
# What the host passes, in order.
ARGUMENTS = (
    ("const PIXEL*", "pixels"),  # (image, ...)
    ("const TARGET*", "all_targets"),  # labels (row, image), or heights
    ("const int*", "order"),  # (row, image): which image comes when; none: as they lie
    ("const int*", "order_rows"),  # (model,)
    ("const int*", "target_rows"),  # (model,)
    ("float*", "all_weights"),  # (model, parameter)
    ("float*", "all_first"),
    ("float*", "all_second"),
    ("const float*", "factors"),  # (2 + schedule, step)
    ("const int*", "optimizers"),  # (model,), as what follows
    ("const float*", "rates"),
    ("const float*", "momenta"),
    ("const float*", "decays"),
    ("const float*", "penalties"),
    ("const int*", "schedules"),
    ("const int*", "activations"),
    ("const float*", "dropout_rates"),
    ("const u64*", "dropout_keys"),
    ("const float*", "is_kernel"),  # (parameter,)
    ("const int*", "weight_places"),  # (copy, parameter)
    ("const int*", "all_tables"),  # (table, lane)
    ("const float*", "a_scale"),  # (2, channel)
    ("double*", "losses"),  # (part, model)
    ("int*", "all_counts"),  # (part, model, 3, class)
    ("int", "n_order"),
    ("int", "n_targets"),
    ("int", "n_seen"),  # images of an epoch, or of all parts
    ("int", "first_step"),
    ("int", "n_steps"),
    ("int", "each_part"),  # images of a part
    ("int", "n_models"),
    ("float", "shift"),
    ("char*", "all_inputs"),  # (model, `Program.outside_size`): what activations were computed from, if it lies there
)


def source(program: Program) -> str:
    """Return the whole text that is compiled, but for what `machine.cuh` holds."""
    body = _training(program) if program.training else _judging(program)  # which writes the tables, too
    kinds = sum({1 << CODES[kind] for kind in program.kinds | {s.function for s in program.stages}})
    golden, first, second = SPLITMIX
    constants = {
        "PRECISION": PRECISIONS[program.precision],
        "KINDS": kinds,
        "GOLDEN": f"{golden:#x}ull",
        "FIRST_MIX": f"{first:#x}ull",
        "SECOND_MIX": f"{second:#x}ull",
        "WORD_STEP": f"{DROPOUT_STEP:#x}u",
        "FIRST_WORD_MIX": f"{DROPOUT_MIX[0]:#x}u",
        "SECOND_WORD_MIX": f"{DROPOUT_MIX[1]:#x}u",
        "BETA1": f"{BETA1}f",
        "BETA2": f"{BETA2}f",
        "EPSILON": f"{EPSILON}f",
        "SMOOTHING": f"{SMOOTHING}f",
        "INFINITE": "float_of(0x7f800000u)",
        "WARPS": program.warps,
        "THREADS": program.threads,
        "GROUPS": program.groups,
        "GROUP": program.place["group"],
        "TABLES": program.place["tables"],
        "N_TABLES": len(program.tables),
        "N_PARAMETERS": program.n_parameters,
        "PIXEL": "unsigned char" if program.n_classes else "float",
        "TARGET": "int" if program.n_classes else "float",
    }
    defined = "".join(f"#define {name} {value}\n" for name, value in constants.items())
    arguments = ",\n    ".join(f"{kind.replace('*', '* __restrict__')} {name}" for kind, name in ARGUMENTS)
    arithmetic = files(__package__).joinpath("arithmetic.cuh").read_text(encoding="utf-8")
    return f"""{defined}
{arithmetic}
extern "C" __global__ void __launch_bounds__(THREADS, {program.blocks}) {ENTRY}(
    {arguments}
) {{
{body}
}}
"""


def _setting_up(program: Program) -> str:
    """Zero shared memory, load a model and lay its weights out for the matrix units."""
    place = program.place
    outside = program.outside_size
    inputs = f"\n    char* const inputs = all_inputs + (size_t)model * {outside};" if outside else ""
    return f"""
    const int thread = threadIdx.x, lane = thread & 31, warp = thread >> 5, row = lane >> 2, column = lane & 3;
    const int model = blockIdx.x, part_of_images = blockIdx.y;
    const u32 base_of_shared = shared_start();
    (void)base_of_shared, (void)row, (void)column, (void)part_of_images;
    float* const weights = all_weights + (size_t)model * N_PARAMETERS;
    float* const first_moments = all_first + (size_t)model * N_PARAMETERS;
    float* const second_moments = all_second + (size_t)model * N_PARAMETERS;
    (void)first_moments, (void)second_moments;{inputs}
    const TARGET* const targets = all_targets;
    const int target_row = target_rows[model];
    const int code = activations[model];
    (void)code, (void)targets;
    for (int i = thread; i < TABLES / 4; i += THREADS) at<u32>(i * 4) = 0;
    for (int i = thread; i < N_TABLES; i += THREADS) at<int>(TABLES + i * 4) = all_tables[i];
    barrier();
    for (int i = thread; i < {IMAGES}; i += THREADS) store_element({place["ones"]}, i, 1.0f);
    for (int i = thread; i < N_PARAMETERS; i += THREADS) {{
        const float w = weights[i];
        {_laid_out(program)}
    }}
    double loss_sum = 0;
    int n_right = 0;
    (void)n_right;
    Dropout dropout = {{0, 0, 0, 0.0f, 1.0f}};
    (void)dropout;
"""


def _numbering(program: Program, *, which: str, buffer: str) -> str:
    """Look up which images come next: `which` in C++ from `slot`, -1 where there is none."""
    size = IMAGES * program.groups
    number = "order ? order[(size_t)order_row * n_order + position] : position"
    label = "all_targets[(size_t)target_row * n_targets + number]" if program.n_classes else "0"
    return f"""for (int slot = thread; slot < {size}; slot += THREADS) {{
            const int position = {which};
            const int number = position < 0 ? -1 : {number};
            at<int>({buffer} + slot * 4) = number;
            at<int>({buffer} + ({size} + slot) * 4) = number < 0 ? 0 : {label};
        }}"""


def _results(program: Program) -> str:
    """Add up what each thread counted, in one order, and store it."""
    place = program.place
    counting = f"""
    for (int i = thread; i < {3 * program.n_classes}; i += THREADS)
        all_counts[((size_t)part_of_images * n_models + model) * {3 * program.n_classes} + i] =
            at<int>({place["counts"]} + i * 4);"""
    return f"""
    loss_sum += from_lane(loss_sum, 1);
    loss_sum += from_lane(loss_sum, 2);
    loss_sum += from_lane(loss_sum, 4);
    n_right += from_lane(n_right, 1);
    n_right += from_lane(n_right, 2);
    n_right += from_lane(n_right, 4);
    barrier();
    if ((lane & 7) == 0) {{  // eight images share a sum
        at<double>({place["images"]} + (warp * 4 + lane / 8) * 16) = loss_sum;
        at<int>({place["images"]} + (warp * 4 + lane / 8) * 16 + 8) = n_right;
    }}
    barrier();
    if (thread == 0) {{
        double total = 0;
        int right = 0;
        for (int i = 0; i < WARPS * 4; ++i) {{
            total += at<double>({place["images"]} + i * 16);
            right += at<int>({place["images"]} + i * 16 + 8);
        }}
        losses[(size_t)part_of_images * n_models + model] = total;
        {"at<int>(" + str(place["counts"]) + ") = right;" if program.training and program.n_classes else ""}
        (void)right;
    }}
    barrier();{counting if program.n_classes else ""}
"""


def _forward(program: Program) -> str:
    """The forward pass of the images at hand, and the loss."""
    stages = [forward_code.outputs(program, number) for number in range(len(program.stages))]
    if not program.training:
        stages.insert(-1, _asked_early(program))
    now = "" if program.asks_early else images_code.images_asked(program, numbers="numbers_at")
    return now + images_code.images(program) + "".join(stages) + backward_code.loss(program)


def _asked_early(program: Program) -> str:
    """Ask for the pixels of the next images, if that is done while these are still worked at."""
    return images_code.images_asked(program, numbers=_numbers(program)) if program.asks_early else ""


def _numbers(program: Program) -> str:
    """Return the byte where the numbers of the next images lie, in C++, once `buffer` has changed."""
    return f"({program.place['numbers']} + buffer * {2 * 4 * IMAGES * program.groups})"


def _groups(program: Program, left: str) -> str:
    """Return how many groups the images that are left fill, in C++; where there is room for one, the compiler knows."""
    return "1" if program.groups == 1 else f"min(GROUPS, ({left} + {IMAGES - 1}) / {IMAGES})"


def _judging(program: Program) -> str:
    size, numbers = IMAGES * program.groups, _numbers(program)
    code = _forward(program)
    return f"""{_setting_up(program)}
    const int order_row = 0, n_images = n_seen;
    const int start = part_of_images * each_part, stop = min(n_seen, start + each_part);
    (void)order_row, (void)n_images;
    int buffer = 0;
    {_numbering(program, which="start + slot < stop ? start + slot : -1", buffer=numbers)}
    barrier();
    {images_code.asked(program)}
    {_asked_early(program)}
    for (int first = start; first < stop; first += {size}) {{
        const int groups = {_groups(program, "stop - first")};
        const int numbers_at = {numbers};
        buffer ^= 1;
        {_numbering(program, which=f"first + {size} + slot < stop ? first + {size} + slot : -1", buffer=numbers)}
{code}
    }}
{_results(program)}"""


def _training(program: Program) -> str:
    size, numbers = IMAGES * program.groups, _numbers(program)
    code = _forward(program)
    last = len(program.stages) - 1
    for number in range(last, 0, -1):
        if number == 1:
            # Its input's gradient may overwrite what the sums read: they come first, those of later layers with them.
            tasks = 0
            for later in range(1, last + 1):
                if program.stages[later].kind != "mean":
                    code += sums_code.weights(program, later, first_warp=tasks)
                    tasks += program.sums(later).tasks
            code += "    barrier();\n"
        code += backward_code.inputs(program, number)
    code += _asked_early(program)
    code += sums_code.weights(program, 0) + "    barrier();\n"
    batch, sizes = program.batch_size, program.network.dropped
    following = (
        f"first + {size} < n_images ? "
        f"(first + {size} + slot < n_images ? begin + first + {size} + slot : -1) : "
        f"(begin + {batch} + slot < n_seen && slot < {batch} ? begin + {batch} + slot : -1)"
    )
    places = "".join(
        f"const int first_place{i} = {' + '.join(f'(n_images * {before} + 1) / 2 * 2' for before in sizes[:i]) or 0};"
        f" (void)first_place{i};"
        for i in range(len(sizes))
    )
    return f"""{_setting_up(program)}
    const int order_row = order_rows[model];
    const float own_rate = rates[model], momentum = momenta[model], decay = decays[model], penalty = penalties[model];
    const int optimizer = optimizers[model], schedule = schedules[model];
    dropout.rate = dropout_rates[model];
    dropout.inverse = 1.0f / (1.0f - dropout.rate);
    dropout.threshold = (u32)floorf(dropout.rate * 65536.0f + 0.5f);
    int buffer = 0, begin = 0;
    {_numbering(program, which=f"slot < min(n_seen, {batch}) ? slot : -1", buffer=numbers)}
    barrier();
    {images_code.asked(program)}
    {_asked_early(program)}
    for (int step = 0; step < n_steps; ++step, begin += {batch}) {{
        const int n_images = min({batch}, n_seen - begin);
        {places}
        const u64 key = step_key(dropout_keys[model], (u64)(first_step + step));
        dropout.low = (u32)key;
        dropout.high = (u32)(key >> 32);
        for (int first = 0; first < n_images; first += {size}) {{
        const int groups = {_groups(program, "n_images - first")};
        const int numbers_at = {numbers};
        buffer ^= 1;
        {_numbering(program, which=following, buffer=numbers)}
{code}
        }}
{_update(program)}
    }}
{_results(program)}"""


def _laid_out(program: Program) -> str:
    """Write weight i, w, where the matrix units read it."""
    return f"""#pragma unroll
        for (int copy = 0; copy < {len(program.weight_places())}; ++copy) {{
            const int where = weight_places[copy * N_PARAMETERS + i];
            if (where >= 0) store_weight(where, w);
            else if (where < -1) at<float>(-2 - where) = w;
        }}"""


def _update(program: Program) -> str:
    """One step of the model's optimiser: what it reads of memory is asked for before any of it is used."""
    copies = len(program.weight_places())
    pieces = [
        (stage, number, start)
        for number, stage in enumerate(program.stages)
        if stage.kind != "mean"
        for start in range(0, stage.n_weights, program.threads)
    ]
    code = []
    for batch in range(0, len(pieces), _AT_ONCE):
        some = list(enumerate(pieces[batch : batch + _AT_ONCE]))
        code.append("{")
        for index, (stage, _, start) in some:
            last = stage.n_weights - 1
            place = (
                f"min(thread + {start}, {last})" if start + program.threads > stage.n_weights else f"thread + {start}"
            )
            wheres = " ".join(
                f"const int where{index}_{copy} = weight_places[{copy} * N_PARAMETERS + i{index}];"
                for copy in range(copies)
            )
            code.append(
                f"const int i{index} = {stage.start} + {place}; float w{index} = weights[i{index}], "
                f"mean{index} = settings.optimizer != 3 ? first_moments[i{index}] : 0.0f, "
                f"square{index} = settings.optimizer != 0 ? second_moments[i{index}] : 0.0f, "
                f"scale{index} = settings.penalty != 0 ? 2.0f * settings.penalty * is_kernel[i{index}] : 0.0f; {wheres}"
            )
        for index, (stage, number, start) in some:
            begin = program.place[f"gradient {stage.name}"] - 4 * stage.start
            terms = " + ".join(
                f"at<float>({begin + split * stage.n_weights * 4} + i{index} * 4)"
                for split in range(program.sums(number).splits)
            )
            guard = f"if (thread + {start} < {stage.n_weights}) " if start + program.threads > stage.n_weights else ""
            stores = " ".join(
                f"if (where{index}_{copy} >= 0) store_weight(where{index}_{copy}, w{index}); "
                f"else if (where{index}_{copy} < -1) at<float>(-2 - where{index}_{copy}) = w{index};"
                for copy in range(copies)
            )
            code.append(
                f"{guard}{{ update(settings, scale{index}, {terms}, w{index}, mean{index}, square{index}); "
                f"weights[i{index}] = w{index}; "
                f"if (settings.optimizer != 3) first_moments[i{index}] = mean{index}; "
                f"if (settings.optimizer != 0) second_moments[i{index}] = square{index}; {stores} }}"
            )
        code.append("}")
    newline = "\n        "
    return f"""
        {{  // the optimiser
        const Settings settings = {{
            own_rate * factors[(2 + schedule) * n_steps + step], momentum, decay, penalty,
            divided(1.0f, factors[step]), divided(1.0f, factors[n_steps + step]), optimizer,
        }};
        {newline.join(code)}
        }}
        barrier();
"""
