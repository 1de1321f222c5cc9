"""Makes pixels of a picture's bytes with Pillow: run in a process that may be lost, see ocr_child.py."""

import warnings
from io import BytesIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
"""Those of the pictures that the server knows. Pillow's other readers are not even tried."""


class Unreadable(Exception):
    """Why there are no pixels, in a clause without anything that is in the picture."""


def decode(data: bytes, most_pixels: int) -> Image.Image:
    """A picture as people see it, in the mode "RGB": turned as its Exif says, on white, the first of its frames.

    Raises:
        Unreadable: the format is another, there are too many pixels, or the data are damaged or cut.
        MemoryError: Pillow does without more memory than the process may have.
    """
    Image.MAX_IMAGE_PIXELS = most_pixels
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.simplefilter("ignore", UserWarning)  # of odd metadata
            with Image.open(BytesIO(data), formats=FORMATS) as image:
                _check_size(image, most_pixels)
                image.load()
                _check_size(image, most_pixels)
                return _on_white(_upright(image))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise Unreadable(f"it has more than {most_pixels:,} pixels") from None
    except UnidentifiedImageError:
        raise Unreadable("it is no picture of a known format, or its header is damaged") from None
    except (MemoryError, Unreadable):
        raise
    except Exception as error:  # Pillow's readers raise whatever damaged data lead them to
        if "memory" in str(error):  # some of its decoders say so, and no more
            raise MemoryError from error
        raise Unreadable("its data are damaged or cut") from None


def _check_size(image: Image.Image, most_pixels: int) -> None:
    width, height = image.size
    if width * height > most_pixels:
        raise Unreadable(f"it has more than {most_pixels:,} pixels")
    if not width * height:
        raise Unreadable("it has no pixels")


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except MemoryError:
        raise
    except Exception:  # a damaged Exif says nothing of how the picture stands
        return image


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # PNG of 16 bits of grey, which Pillow's own conversion would cut off at 255
        return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return white
