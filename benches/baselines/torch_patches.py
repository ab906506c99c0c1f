"""Memory banks and metrics over pixels, as users of PyTorch, faiss and NumPy have them."""

import numpy as np
import torch


def coreset():
    """Greedy k-center as PatchCore's implementations write it: by subtraction, or by a matrix product."""
    x = torch.rand(50_000, 128)
    squares = (x * x).sum(dim=1)

    def loop(distance):
        nearest = torch.full((len(x),), torch.inf)
        chosen = [0]
        for _ in range(499):
            nearest = torch.minimum(nearest, distance(x[chosen[-1]]))
            chosen.append(int(nearest.argmax()))
        return chosen

    def product(centre):
        return (squares - 2 * (x @ centre) + centre @ centre).clamp_min(0)

    return (lambda: loop(lambda c: torch.linalg.norm(x - c, dim=1))), (lambda: loop(product))


def knn_faiss(queries, vectors, d):
    """Exact search with faiss-cpu, the index built before."""
    import faiss

    random = np.random.default_rng(0)
    query, bank = (random.random((n, d), dtype=np.float32) for n in (queries, vectors))
    index = faiss.IndexFlatL2(d)
    index.add(bank)
    return lambda: index.search(query, 1)


def covariance():
    """Column sums and products of centred patches."""
    x, shift = torch.rand(25_088, 448), torch.rand(448)

    def call():
        centred = x - shift
        return centred.sum(dim=0), centred.T @ centred

    return call


def aupro():
    """AU-PRO up to 0.3 in plain NumPy: all pixels sorted once, components by SciPy."""
    from scipy.ndimage import label

    random = np.random.default_rng(0)
    masks = np.zeros((100, 256, 256), dtype=bool)
    for n in range(0, 100, 2):
        masks[n, 20 + n : 44 + n, 20 + n : 44 + n] = True
        masks[n, 180:220, 180:220] = True
    maps = random.random(masks.shape, dtype=np.float32) + 0.5 * masks.astype(np.float32)

    def call():
        weights, regions = np.zeros(masks.shape), 0
        for mask, weight in zip(masks, weights):
            components, count = label(mask, structure=np.ones((3, 3)))
            areas = np.bincount(components.ravel())
            weight[mask] = 1 / areas[components[mask]]
            regions += count
        order = np.argsort(maps, axis=None)[::-1]
        scores = maps.ravel()[order]
        normal = ~masks.ravel()[order]
        fpr = np.cumsum(normal) / normal.sum()
        pro = np.cumsum(weights.ravel()[order]) / regions
        last = np.append(scores[1:] != scores[:-1], True)
        fpr, pro = np.append(0, fpr[last]), np.append(0, pro[last])
        inside = fpr <= 0.3
        x = np.append(fpr[inside], 0.3)
        y = np.append(pro[inside], np.interp(0.3, fpr, pro))
        return np.trapezoid(y, x) / 0.3

    return call
