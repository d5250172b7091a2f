"""What lamps did, judged second by second: knows nothing of phases, filters and monitors."""

from __future__ import annotations

from itertools import pairwise


def lamps_of(signal, changes, until, step=0.5):
    """State at every ``step`` s, from changes in any order."""
    own = sorted((c for c in changes), key=lambda c: c.time)
    found, at, state = [], 0, signal.greens[0]
    for k in range(int(until / step)):
        while at < len(own) and own[at].time <= k * step + 1e-9:
            state = own[at].state
            at += 1
        found.append(state)
    return found


def runs_of(lamps, letter):
    """(aspect, first, one past the last) of every run of a letter."""
    aspects = ["G" if s[letter] in "Gg" else s[letter] if s[letter] == "y" else "r" for s in lamps]
    edges = [0, *[k for k in range(1, len(aspects)) if aspects[k] != aspects[k - 1]], len(aspects)]
    return [(aspects[a], a, b) for a, b in pairwise(edges)]


def together(signal, one, two):
    return any(state[one] in "Gg" and state[two] in "Gg" for state in signal.greens)


def unsafe(signal, changes, until, knobs, step=0.5):
    """Everything that is wrong with a sequence, found second by second."""
    lamps = lamps_of(signal, changes, until, step)
    letters = range(len(signal.greens[0]))
    wrong = [
        f"{k * step}: {a} and {b} in {state}"
        for k, state in enumerate(lamps)
        for a in letters
        for b in letters
        if a != b and state[a] in "Gg" and state[b] in "Ggy" and not together(signal, a, b)
    ]
    for letter in letters:
        runs = runs_of(lamps, letter)
        for (aspect, a, b), (after, _, _) in pairwise(runs):
            wrong += [f"letter {letter}: {w}" for w in ended(aspect, after, (b - a) * step, knobs)]
        for aspect, a, _ in runs[1:]:
            if aspect == "G":
                wrong += just_left(signal, letter, lamps[max(a - int(knobs.all_red / step), 0) : a])
    return wrong


def ended(aspect, after, lasted, knobs):
    """What is wrong with a run of an aspect that lasted so long, and with what follows it."""
    if aspect == "G" and lasted < knobs.min_green:
        yield f"green of {lasted} s"
    if aspect == "G" and after == "r" and knobs.yellow:
        yield "green to red"
    if aspect == "y" and lasted < knobs.yellow:
        yield f"yellow of {lasted} s"
    if aspect == "y" and after == "G":
        yield "yellow to green"


def just_left(signal, letter, before):
    """Who was not red in the states just before a letter turned green, and should have been."""
    for foe in range(len(signal.greens[0])):
        apart = foe != letter and not together(signal, letter, foe)
        if apart and any(state[foe] in "Ggy" for state in before):
            yield f"letter {letter}: green although {foe} has just left"
