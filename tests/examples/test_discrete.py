"""Run the examples with discrete latents in small forms, and look at what they print."""

import re

import pytest

from ember.examples import capture_recapture, gaussian_mixture, hidden_markov, semi_supervised, topics


def printed(example, arguments, capsys):
    assert example.main(arguments.split()) == 0
    return capsys.readouterr().out


def percent(text):
    return float(re.findall(r"([\d.]+)%", text)[-1])


def test_gaussian_mixture(capsys):
    text = printed(gaussian_mixture, "--points 200 --steps 150", capsys)
    rows = [line.split() for line in text.splitlines()[2:4]]
    assert [float(row[2]) for row in rows] == pytest.approx([54, 80], abs=3)
    assert sum(int(row[4]) for row in rows) == 200
    assert percent(text) > 95


def test_hidden_markov_models(capsys):
    text = printed(hidden_markov, "--chorales 20 --length 8 --steps 25", capsys)
    rows = [line.split() for line in text.splitlines()[1:]]
    assert [row[0] for row in rows] == ["plain", "neural", "factorial"]
    for _, first, last, held_out in rows:
        assert float(last) < float(first) and 0.3 < float(held_out) < 0.75


def test_topics(capsys):
    text = printed(topics, "--steps 60 --batch-size 2000", capsys)
    found, alone = map(int, re.search(r"perplexity: (\d+); one topic for all chapters: (\d+)", text).groups())
    assert found < alone == 848
    assert text.count("typical words") == 5


def test_capture_recapture(capsys):
    text = printed(capture_recapture, "--draws 150 --chains 1 --no-progress", capsys)
    caught, median = map(int, re.search(r"(\d+) birds were caught; there are (\d+)", text).groups())
    assert caught == 31 and 33 <= median <= 60


def test_semi_supervised(capsys):
    text = printed(semi_supervised, "--images 600 --steps 150", capsys)
    few, all_images = (float(each) for each in re.findall(r"images +(?:alone)? +([\d.]+)%", text))
    assert few > 60 and all_images > few + 3
