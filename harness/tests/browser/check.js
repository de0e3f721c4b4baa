// Looks over a page that is laid out; gives a list of what is wrong.
(() => {
  const wrong = [];
  const seen = (e) => e.checkVisibility({ visibilityProperty: true, opacityProperty: true }) && e.getClientRects().length > 0;
  const name = (e) => `${e.tagName.toLowerCase()}${e.id ? '#' + e.id : ''}.${e.getAttribute('class') || ''} "${e.textContent.trim().slice(0, 40)}"`;
  const inside = (e) => e.closest('.scroll, pre, nav, .sr, .skip');

  const wide = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth > wide) wrong.push(`the page is ${document.documentElement.scrollWidth} wide, not ${wide}`);
  for (const e of document.body.querySelectorAll('*')) {
    if (!seen(e) || inside(e)) continue;
    const r = e.getBoundingClientRect();
    if (r.right > wide + 1 || r.left < -1) wrong.push(`out of the page: ${name(e)} ${r.left}..${r.right}`);
  }

  // Every piece of text by its own box.
  const boxes = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let t = walker.nextNode(); t; t = walker.nextNode()) {
    const e = t.parentElement;
    if (!t.textContent.trim() || !seen(e) || e.closest('.sr, .skip, script, nav, .theme')) continue;
    const range = document.createRange();
    range.selectNodeContents(t);
    for (const r of range.getClientRects()) {
      // What is scrolled out of sight covers nothing.
      const holder = e.closest('.scroll, pre');
      const h = holder && holder.getBoundingClientRect();
      if (h && (r.bottom > h.bottom + 1 || r.right > h.right + 1)) continue;
      // Lines are taller than their letters.
      const trim = Math.min(r.height * 0.18, 4);
      boxes.push({ e, l: r.left, r: r.right, t: r.top + trim, b: r.bottom - trim });
    }
  }
  boxes.sort((a, b) => a.t - b.t);
  boxes.forEach((a, i) => {
    for (let j = i + 1; j < boxes.length && boxes[j].t < a.b - 1; j++) {
      const b = boxes[j];
      // A table's head stays above the rows that pass below it.
      if (b.e.closest('thead') !== a.e.closest('thead') && a.e.closest('table') && a.e.closest('table') === b.e.closest('table')) continue;
      if (a.l < b.r - 1 && b.l < a.r - 1) wrong.push(`overlap: ${name(a.e)} and ${name(b.e)}`);
    }
  });

  for (const svg of document.querySelectorAll('svg.plot')) {
    if (!seen(svg)) continue;
    const frame = svg.getBoundingClientRect();
    for (const t of svg.querySelectorAll('text')) {
      const r = t.getBoundingClientRect();
      if (r.left < frame.left - 1 || r.right > frame.right + 1) wrong.push(`text leaves its plot: ${name(t)}`);
      const size = parseFloat(getComputedStyle(t).fontSize) * frame.width / svg.viewBox.baseVal.width;
      if (size < 9.5) wrong.push(`text of ${size} px: ${name(t)}`);
    }
    for (const drawn of svg.querySelectorAll('.curve, .heat, .dot')) {
      const style = getComputedStyle(drawn);
      const paint = style.stroke !== 'none' || style.fill !== 'none';
      if (!drawn.checkVisibility() || !paint) wrong.push(`not drawn: ${drawn.getAttribute('class')} of ${svg.closest('figure').id}`);
    }
    if (!svg.querySelector('.curve, .heat')) wrong.push(`an empty plot: ${svg.closest('figure').id}`);
    if (!svg.getAttribute('aria-label')) wrong.push(`a plot without a label: ${svg.closest('figure').id}`);
  }
  for (const figure of document.querySelectorAll('figure')) {
    const rows = figure.querySelectorAll('details table tbody tr').length;
    if (!rows) wrong.push(`no table behind ${figure.id}`);
    for (const svg of figure.querySelectorAll('svg')) {
      if (svg.dataset.stops.split(' ').length !== rows) wrong.push(`stops and rows differ: ${figure.id}`);
    }
    if ([...figure.querySelectorAll('svg')].filter(seen).length !== 1) wrong.push(`not one drawing: ${figure.id}`);
  }
  const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
  if (new Set(ids).size !== ids.length) wrong.push('an id twice');
  for (const a of document.querySelectorAll('a[href^="#"]')) {
    if (!document.querySelector(CSS.escape ? `#${CSS.escape(a.hash.slice(1))}` : a.hash)) wrong.push(`a link to nowhere: ${a.hash}`);
  }
  return [...new Set(wrong)].slice(0, 25);
})()
