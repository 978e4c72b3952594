"""Pages with a digit on them as people photograph, scan and draw them, and pages without one; all made here.

``page(kind, digit, seed)`` gives (h, w, 3) uint8. Digits are smooth strokes through points, shaken by the seed.
"""

import io

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

# Points (x, y) in a unit box, one list a stroke; a curve goes through them, and turns sharply where one is repeated.
DIGITS = {
    0: [[(0.5, 0.0), (0.15, 0.2), (0.08, 0.55), (0.25, 0.93), (0.55, 1.0), (0.85, 0.75), (0.88, 0.35), (0.5, 0.0)]],
    1: [[(0.55, 0.0), (0.53, 0.5), (0.5, 1.0)]],
    2: [
        [(0.1, 0.22), (0.3, 0.02), (0.7, 0.03), (0.82, 0.28), (0.6, 0.6), (0.1, 1.0), (0.1, 1.0), (0.5, 0.97),
         (0.92, 1.0)]
    ],
    3: [
        [(0.12, 0.1), (0.45, 0.0), (0.8, 0.15), (0.75, 0.38), (0.4, 0.47), (0.4, 0.47), (0.8, 0.6), (0.82, 0.85),
         (0.5, 1.0), (0.1, 0.9)]
    ],
    4: [
        [(0.35, 0.0), (0.2, 0.35), (0.1, 0.6), (0.1, 0.6), (0.5, 0.58), (0.9, 0.57)],
        [(0.72, 0.2), (0.68, 0.6), (0.65, 1.0)],
    ],
    5: [
        [(0.82, 0.02), (0.5, 0.03), (0.25, 0.02), (0.25, 0.02), (0.2, 0.25), (0.17, 0.42), (0.17, 0.42), (0.5, 0.36),
         (0.82, 0.55), (0.78, 0.85), (0.5, 1.0), (0.12, 0.92)]
    ],
    6: [
        [(0.68, 0.0), (0.35, 0.25), (0.14, 0.6), (0.25, 0.95), (0.55, 1.0), (0.8, 0.8), (0.72, 0.55), (0.45, 0.5),
         (0.2, 0.68)]
    ],
    7: [[(0.1, 0.05), (0.5, 0.06), (0.88, 0.04), (0.88, 0.04), (0.62, 0.45), (0.42, 1.0)]],
    8: [
        [(0.75, 0.12), (0.45, 0.0), (0.22, 0.2), (0.5, 0.46), (0.8, 0.75), (0.52, 1.0), (0.2, 0.8), (0.45, 0.5),
         (0.75, 0.28), (0.75, 0.12)]
    ],
    9: [[(0.78, 0.15), (0.45, 0.0), (0.18, 0.22), (0.35, 0.48), (0.68, 0.4), (0.78, 0.12), (0.74, 0.5), (0.6, 1.0)]],
}  # fmt: skip


def curve(points, steps=16):
    """Points along a Catmull-Rom spline; a repeated point is a corner."""
    parts, start = [], 0
    for i in range(1, len(points)):
        if points[i] == points[i - 1] or i == len(points) - 1:
            end = i if points[i] != points[i - 1] else i - 1
            p = np.array(points[start : end + 1], float)
            start = i
            if len(p) > 1:
                p = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
                t = np.linspace(0, 1, steps, endpoint=False)[:, None]
                for a, b, c, d in zip(p, p[1:], p[2:], p[3:], strict=False):
                    parts.append(
                        0.5
                        * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
                    )
                parts.append(p[-2:-1])
    return np.concatenate(parts)


def strokes(digit, rng, height, where):
    """Polylines (n, 2) in pixels: slanted, widened and shaken; ``where`` is the middle (x, y)."""
    slant, aspect, turn = rng.uniform(-0.05, 0.25), rng.uniform(0.55, 0.8), rng.uniform(-0.08, 0.08)
    lines = []
    for points in DIGITS[digit]:
        shaken = {p: tuple(np.array(p) + rng.normal(0, 0.018, 2)) for p in points}
        p = curve([shaken[point] for point in points]) - 0.5
        x, y = aspect * p[:, 0] - slant * p[:, 1], p[:, 1]
        lines.append(np.stack([x - turn * y, y + turn * x], 1) * height + np.array(where))
    return lines


def mask(size, lines, width):
    """(h, w) float in [0, 1]: lines of a width in pixels, antialiased where wider than one."""
    fine = 1 if width <= 1 else 4
    image = Image.new("L", (size[0] * fine, size[1] * fine))
    draw = ImageDraw.Draw(image)
    for line in lines:
        points = [tuple(p) for p in line * fine]
        draw.line(points, 255, max(1, round(width * fine)), joint="curve")
        if width > 1:
            for x, y in (points[0], points[-1]):
                r = width * fine / 2
                draw.ellipse((x - r, y - r, x + r, y + r), 255)
    return np.asarray(image.resize(size, Image.Resampling.BOX), float) / 255


def inked(paper, ink, colour=(40, 42, 60), strength=0.85):
    """A sheet (h, w, 3) float with ink on it; pens let some of the paper through."""
    cover = strength * ink[..., None]
    return paper * (1 - cover) + np.array(colour, float) * cover * paper / 255


def sheet(size, tone=(238, 236, 228)):
    return np.ones((size[1], size[0], 3)) * np.array(tone, float)


def finished(image, rng, noise=3.0, blur=0.6, quality=85):
    """Through a lens, a sensor and a JPEG file."""
    image = ndimage.gaussian_filter(image, (blur, blur, 0)) + rng.normal(0, noise, image.shape)
    buffer = io.BytesIO()
    Image.fromarray(np.uint8(image.clip(0, 255))).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))


def uneven_light(digit, rng):
    size = (900, 700)
    page = inked(sheet(size), _one(digit, rng, size, 0.45, 0.02))
    y, x = np.mgrid[: size[1], : size[0]] / np.array(size[::-1]).reshape(2, 1, 1)
    light = 120 + 110 * np.clip(1 - np.hypot(x - rng.uniform(0, 1), y - rng.uniform(0, 1)) / 1.2, 0, 1)
    return finished(page * light[..., None] / 238, rng)


def shadow(digit, rng):
    size = (800, 800)
    page = inked(sheet(size), _one(digit, rng, size, 0.45, 0.022))
    x = np.arange(size[0])[None] + rng.uniform(-0.4, 0.4) * np.arange(size[1])[:, None]
    edge, soft = rng.uniform(0.35, 0.6) * size[0], rng.uniform(4, 60)
    light = 1 - rng.uniform(0.35, 0.6) / (1 + np.exp(-(x - edge) / soft))
    return finished(page * light[..., None], rng)


def desk(digit, rng):
    size = (1200, 900)
    grain = ndimage.gaussian_filter(rng.normal(0, 1, (size[1], size[0])), (2, 60))
    wood = np.array([74, 52, 38.0]) + 8 * (grain / grain.std())[..., None]
    paper = (560, 640)
    page = inked(sheet(paper), _one(digit, rng, paper, 0.5, 0.02))
    cut = Image.fromarray(np.uint8(page)).convert("RGBA").rotate(rng.uniform(-12, 12), Image.BICUBIC, expand=True)
    base = Image.fromarray(np.uint8(wood.clip(0, 255)))
    base.paste(cut, (int(rng.integers(20, 450)), int(rng.integers(20, 120))), cut)
    return finished(np.asarray(base, float), rng)


def ruled(digit, rng):
    size = (900, 900)
    page, step = sheet(size), int(rng.integers(55, 110))
    colour, width = ((150, 175, 225), 2) if rng.random() < 0.7 else ((170, 170, 170), 2)
    lines = Image.fromarray(np.uint8(page))
    draw, tilt = ImageDraw.Draw(lines), rng.uniform(-18, 18)
    for y in range(-40, size[1] + 40, step):
        draw.line([(0, y), (size[0], y + tilt)], colour, width)
    if rng.random() < 0.5:  # squared
        for x in range(-40, size[0] + 40, step):
            draw.line([(x, 0), (x - tilt, size[1])], colour, width)
    return finished(inked(np.asarray(lines, float), _one(digit, rng, size, 0.45, 0.02)), rng)


def thin_pencil(digit, rng):
    height = int(rng.choice([150, 190, 300, 600, 1200]))
    size = (int(1.5 * height), int(1.5 * height))
    ink = mask(size, strokes(digit, rng, height, (size[0] / 2, size[1] / 2)), 1)
    return np.uint8(inked(sheet(size, (255, 255, 255)), ink, (60, 60, 60), 1.0))


def scan_border(digit, rng):
    size = (700, 900)
    page = inked(sheet(size, (252, 252, 250)), _one(digit, rng, size, 0.4, 0.02))
    for side in range(4):
        if side == 0 or rng.random() < 0.6:
            page = np.rot90(page, side).copy()
            page[: int(rng.integers(6, 70))] = 12
            page = np.rot90(page, -side).copy()
    return finished(page, rng, noise=1.5)


def framed(digit, rng):
    size = (800, 800)
    image = Image.fromarray(np.uint8(sheet(size)))
    inset = int(rng.integers(60, 130))
    ImageDraw.Draw(image).rectangle((inset, inset, size[0] - inset, size[1] - inset), outline=(30, 30, 30), width=6)
    turned = image.rotate(rng.uniform(-3, 3), Image.BICUBIC, fillcolor=(238, 236, 228))
    return finished(inked(np.asarray(turned, float), _one(digit, rng, size, 0.42, 0.025)), rng)


def chalk(digit, rng):
    size = (900, 700)
    dust = ndimage.gaussian_filter(rng.normal(0, 1, (size[1], size[0])), 12)
    board = np.array([38, 66, 52.0]) + 7 * (dust / dust.std())[..., None]
    ink = _one(digit, rng, size, 0.5, 0.03) * rng.uniform(0.55, 1, (size[1], size[0]))
    return finished(board * (1 - ink[..., None]) + 225 * ink[..., None], rng)


def _one(digit, rng, size, share, width):
    """The digit, ``share`` of the page high, lines of ``width`` times the page's height, somewhere about the middle."""
    height = share * size[1] * rng.uniform(0.85, 1.15)
    where = np.array(size) / 2 + rng.uniform(-0.08, 0.08, 2) * np.array(size)
    return mask(size, strokes(digit, rng, height, where), width * size[1] * rng.uniform(0.7, 1.3))


KINDS = {f.__name__: f for f in (uneven_light, shadow, desk, ruled, thin_pencil, scan_border, framed, chalk)}


def page(kind, digit, seed):
    return KINDS[kind](digit, np.random.default_rng([seed, digit]))


def row_of(digits, rng, size=(1100, 500), gap=1.0):
    """Several digits side by side on one sheet; gap: from middle to middle, in heights."""
    height = 0.45 * size[1]
    left = size[0] / 2 - gap * height * (len(digits) - 1) / 2
    lines = [
        line
        for i, digit in enumerate(digits)
        for line in strokes(digit, rng, height, (left + gap * height * i, size[1] / 2 + rng.uniform(-15, 15)))
    ]
    return finished(inked(sheet(size), mask(size, lines, 12)), rng)


def _blank(rng):
    return finished(sheet((600, 500)), rng, noise=5)


def _uneven_blank(rng):
    x = np.arange(600)[None]
    return finished(sheet((600, 500)) * (0.5 + 0.5 * x / 600)[..., None], rng)


def _lines_alone(rng):
    image = Image.fromarray(np.uint8(sheet((700, 700))))
    for y in range(30, 700, 60):
        ImageDraw.Draw(image).line([(0, y), (700, y + 5)], (120, 150, 210), 2)
    return finished(np.asarray(image, float), rng)


def _checkers(rng, cell):
    y, x = np.mgrid[:400, :400] // cell
    return np.uint8(np.repeat(((x + y) % 2 * 255)[..., None], 3, 2))


def _upper_half_black(rng):
    page = np.full((300, 300, 3), 255, np.uint8)
    page[:150] = 0
    return page


def _noise(rng):
    return np.uint8(rng.integers(0, 256, (300, 300, 3)))


def _clouds(rng):
    field = ndimage.gaussian_filter(rng.normal(0, 1, (400, 500)), 25)
    return np.uint8(np.repeat((128 + 60 * field / field.std()).clip(0, 255)[..., None], 3, 2))


def _wood(rng):
    grain = ndimage.gaussian_filter(rng.normal(0, 1, (500, 700)), (2, 50))
    return np.uint8((np.array([110, 80, 55.0]) + 14 * (grain / grain.std())[..., None]).clip(0, 255))


def _frame_alone(rng):
    image = Image.fromarray(np.uint8(sheet((600, 600))))
    ImageDraw.Draw(image).rectangle((100, 100, 500, 500), outline=(30, 30, 30), width=6)
    return finished(np.asarray(image, float), rng)


def _black_border_alone(rng):
    page = sheet((500, 600), (250, 250, 250))
    page[:25] = page[:, :30] = page[-20:] = page[:, -35:] = 10
    return finished(page, rng)


def _empty_sheet_on_a_desk(rng):
    page = np.ones((700, 900, 3)) * np.array([74, 52, 38.0])
    page[120:600, 200:650] = 235
    return finished(page, rng)


def _text(rng):
    """Lines of small words, too many to be meant one by one."""
    size = (900, 700)
    lines = []
    for y in range(60, 660, 45):
        x = 50.0
        while x < 850:
            lines += strokes(int(rng.integers(10)), rng, 24, (x, y))
            x += 22 if rng.random() < 0.8 else 50
    return finished(inked(sheet(size), mask(size, lines, 2.5)), rng)


def _scribble(rng):
    steps = np.cumsum(rng.normal(0, 1, (400, 2)), 0)
    smooth = ndimage.gaussian_filter1d(steps - steps.mean(0), 2, axis=0)
    line = smooth / np.abs(smooth).max() * 200 + 300
    return finished(inked(sheet((600, 600)), mask((600, 600), [line], 8)), rng)


def _blot(rng):
    y, x = np.mgrid[:500, :500]
    return finished(inked(sheet((500, 500)), (np.hypot(x - 250, y - 250) < 120).astype(float)), rng)


NOTHING = {
    "fine_checkers": lambda rng: _checkers(rng, 2),
    "checkers": lambda rng: _checkers(rng, 20),
    "large_checkers": lambda rng: _checkers(rng, 100),
} | {
    f.__name__.strip("_"): f
    for f in (
        *(_blank, _uneven_blank, _lines_alone, _upper_half_black, _noise, _clouds, _wood, _frame_alone),
        *(_black_border_alone, _empty_sheet_on_a_desk, _text, _scribble, _blot),
    )
}


def nothing(kind, seed=0):
    return NOTHING[kind](np.random.default_rng(seed))
