#!/usr/bin/env python3
"""Looks at pages of gaur in a real browser: phone and desktop, light and dark.

    check.py PAGE… [--pictures DIR]

No complaint of the browser, nothing fetched, nothing wider than the page, no text over
other text, a table behind every plot, and all of it reached and read by keyboard, by
pointer and by touch. Exit code 1 and a line for each thing that is not so.
"""

import os
import pathlib
import sys

from devtools import Browser

HERE = pathlib.Path(__file__).parent
SIZES = {"phone": (390, 844, True), "desktop": (1280, 800, False), "tablet": (768, 1024, True)}
LOOKS = [("phone", "light"), ("phone", "dark"), ("desktop", "light"), ("desktop", "dark"),
         ("tablet", "light")]
TAB, RIGHT, END, ESCAPE = ("Tab", 9), ("ArrowRight", 39), ("End", 35), ("Escape", 27)

REACHABLE = """(() => {
  const list = [...document.querySelectorAll('a[href], select, summary, button, [tabindex="0"]')]
    .filter((e) => e.checkVisibility() && e.getClientRects().length);
  list.forEach((e, i) => { e.dataset.reach = i; });
  return list.length;
})()"""
FOCUSED = """(() => {
  const e = document.activeElement;
  const ring = getComputedStyle(e).outlineStyle !== 'none';
  return [e.dataset.reach === undefined ? -1 : Number(e.dataset.reach), ring];
})()"""
TIP = """(() => {
  const tips = [...document.querySelectorAll('.tip')].filter((t) => !t.hidden);
  if (tips.length !== 1) return `${tips.length} tips`;
  const r = tips[0].getBoundingClientRect();
  if (r.left < 0 || r.right > innerWidth) return 'the tip leaves the page';
  const empty = [...tips[0].querySelectorAll('b, span')].some((e) => !e.textContent.trim());
  return empty || !tips[0].querySelector('b') ? 'an empty tip' : '';
})()"""
FIRST_PLOT = """(() => {
  const s = document.querySelectorAll('.stage')[%d];
  s.scrollIntoView({ block: 'center' });
  const r = s.getBoundingClientRect();
  return [r.left + r.width * %f, r.top + r.height / 2];
})()"""


def keyboard(b, wrong):
    count = b.run(REACHABLE)
    b.run("document.activeElement.blur(); window.scrollTo(0, 0)")
    reached, bare = set(), set()
    for _ in range(count + 3):
        b.key(*TAB)
        at, ring = b.run(FOCUSED)
        if at >= 0:
            reached.add(at)
            if not ring:
                bare.add(at)
    for what, which in (("not reached by Tab", set(range(count)) - reached), ("focus does not show", bare)):
        for i in sorted(which)[:5]:
            wrong.append(what + ": " + b.run(f"document.querySelector('[data-reach=\"{i}\"]').outerHTML.slice(0, 90)"))
    stages = b.run("document.querySelectorAll('.stage').length")
    for i in range(stages):
        b.run(f"document.querySelectorAll('.stage')[{i}].focus()")
        b.key(*RIGHT)
        first = b.run("document.activeElement.getAttribute('aria-valuetext')")
        problem = b.run(TIP)
        b.key(*END)
        last = b.run("document.activeElement.getAttribute('aria-valuetext')")
        problem = problem or b.run(TIP)
        rows = b.run("Number(document.activeElement.getAttribute('aria-valuemax'))")
        if rows > 1 and first == last:
            problem = problem or "keys do not move"
        b.key(*ESCAPE)
        if b.run("[...document.querySelectorAll('.tip')].some((t) => !t.hidden)"):
            problem = problem or "Escape does not close"
        if problem:
            wrong.append(f"plot {i} by keyboard: {problem}")
    b.run("document.activeElement.blur()")


def pointer(b, touch, wrong):
    for i in range(b.run("document.querySelectorAll('.stage').length")):
        for share in (0.2, 0.95):
            x, y = b.run(FIRST_PLOT % (i, share))
            if touch:
                b.send("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
                b.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
            else:
                b.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
            problem = b.run(TIP)
            if problem:
                wrong.append(f"plot {i} by {'touch' if touch else 'pointer'}: {problem}")
    b.run("window.dispatchEvent(new Event('resize'))")


def theme(b, wrong):
    ground = "getComputedStyle(document.body).backgroundColor"
    before = b.run(ground)
    choose = "(() => { const s = document.getElementById('theme'); s.value = '%s'; s.dispatchEvent(new Event('change')); })()"
    seen = set()
    for value in ("light", "dark", "auto"):
        b.run(choose % value)
        seen.add(b.run(ground))
    if len(seen) != 2 or b.run(ground) != before:
        wrong.append(f"the theme's switch: {seen}")


def look(b, page, size, scheme, pictures):
    width, height, touch = SIZES[size]
    b.open(pathlib.Path(page).resolve().as_uri(), width, height, scheme, touch)
    b.run("try { localStorage.clear() } catch {}")
    wrong = []
    script = (HERE / "check.js").read_text()
    wrong += b.run(script)
    if pictures:
        name = f"{pathlib.Path(page).parent.name}-{pathlib.Path(page).stem}-{size}-{scheme}"
        b.picture(os.path.join(pictures, f"{name}.png"))
        b.picture(os.path.join(pictures, f"{name}-whole.png"), whole=True)
    pointer(b, touch, wrong)
    if (size, scheme) in (("desktop", "light"), ("phone", "dark")):
        keyboard(b, wrong)
    theme(b, wrong)
    b.run("document.querySelectorAll('details').forEach((d) => { d.open = true })")
    wrong += [f"with all unfolded: {w}" for w in b.run(script)]
    wrong += b.complaints()
    return [f"{page}, {size}, {scheme}: {w}" for w in dict.fromkeys(wrong)]


def main():
    args = sys.argv[1:]
    pictures = None
    if "--pictures" in args:
        at = args.index("--pictures")
        pictures = args[at + 1]
        os.makedirs(pictures, exist_ok=True)
        del args[at:at + 2]
    if not args:
        raise SystemExit(__doc__)
    browser = Browser()
    try:
        wrong = [w for page in args for size, scheme in LOOKS
                 for w in look(browser, page, size, scheme, pictures)]
    finally:
        browser.close()
    for line in wrong:
        print(line)
    print(f"{len(args)} page(s), phone, desktop and tablet, light and dark: {len(wrong)} problem(s)")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
