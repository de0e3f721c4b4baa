'use strict';
// The page is whole without this: here are the theme's switch, and the values beside
// the pointer, which are read from the table under each plot.
(() => {
  const root = document.documentElement;
  const theme = document.getElementById('theme');
  const stored = () => { try { return localStorage.getItem('gaur-theme') || 'auto'; } catch { return 'auto'; } };
  const apply = (v) => {
    if (v === 'auto') delete root.dataset.theme; else root.dataset.theme = v;
  };
  theme.value = stored();
  apply(theme.value);
  theme.closest('label').hidden = false;
  theme.addEventListener('change', () => {
    apply(theme.value);
    try { localStorage.setItem('gaur-theme', theme.value); } catch { /* not kept, then */ }
  });

  let shown = null;
  const hide = () => { if (shown) { shown(); shown = null; } };

  for (const stage of document.querySelectorAll('.stage')) {
    const table = stage.closest('figure').querySelector('table');
    const rows = [...table.tBodies[0].rows];
    if (!rows.length) continue;
    const head = [...table.tHead.rows[0].cells];
    const shows = Number(table.dataset.tip);
    const hair = stage.querySelector('.hair');
    const tip = stage.querySelector('.tip');
    let at = -1;

    const plot = () => [...stage.querySelectorAll('svg')].find((s) => s.getBoundingClientRect().width > 0);
    const stopsOf = (svg) => svg.dataset.stops.split(' ').map(Number);
    const text = (i) => [...rows[i].cells].slice(0, shows).map((c, j) => j ? `${head[j].textContent} ${c.textContent}` : c.textContent).join(', ');

    const clear = () => {
      hair.hidden = tip.hidden = true;
      at = -1;
    };
    const show = (i) => {
      const svg = plot();
      if (!svg) return;
      if (shown !== clear) hide();
      shown = clear;
      at = Math.max(0, Math.min(rows.length - 1, i));
      const stops = stopsOf(svg);
      const box = svg.viewBox.baseVal;
      const scale = svg.getBoundingClientRect().width / box.width;
      const x = stops[at] * scale;
      const top = Number(svg.dataset.top) * scale;
      hair.style.left = `${x}px`;
      hair.style.top = `${top}px`;
      hair.style.height = `${(svg.dataset.bottom - svg.dataset.top) * scale}px`;
      tip.replaceChildren();
      [...rows[at].cells].slice(0, shows).forEach((cell, j) => {
        if (!j) {
          const b = document.createElement('b');
          b.textContent = cell.textContent;
          tip.append(b);
          return;
        }
        const name = document.createElement('span');
        const value = document.createElement('span');
        if (head[j].dataset.style) {
          const swatch = document.createElement('i');
          swatch.className = head[j].dataset.style;
          name.append(swatch);
        }
        name.append(head[j].textContent);
        value.textContent = cell.textContent;
        tip.append(name, value);
      });
      hair.hidden = tip.hidden = false;
      const width = stage.clientWidth;
      // Beside the line, on the side with more room, and never out of the figure.
      const left = x > width / 2 ? x - tip.offsetWidth - 10 : x + 10;
      tip.style.left = `${Math.max(0, Math.min(width - tip.offsetWidth, left))}px`;
      tip.style.top = `${top + 6}px`;
      stage.setAttribute('aria-valuenow', at);
      stage.setAttribute('aria-valuetext', text(at));
    };
    const nearest = (clientX) => {
      const svg = plot();
      if (!svg) return 0;
      const r = svg.getBoundingClientRect();
      const x = (clientX - r.left) / r.width * svg.viewBox.baseVal.width;
      const stops = stopsOf(svg);
      let best = 0;
      stops.forEach((s, i) => { if (Math.abs(s - x) < Math.abs(stops[best] - x)) best = i; });
      return best;
    };

    stage.tabIndex = 0;
    stage.setAttribute('role', 'slider');
    stage.setAttribute('aria-label', stage.dataset.label);
    stage.setAttribute('aria-valuemin', 0);
    stage.setAttribute('aria-valuemax', rows.length - 1);
    stage.setAttribute('aria-valuenow', 0);
    stage.setAttribute('aria-valuetext', text(0));
    stage.addEventListener('pointermove', (e) => { if (!e.buttons || e.pointerType !== 'mouse') show(nearest(e.clientX)); });
    stage.addEventListener('pointerdown', (e) => { if (e.pointerType !== 'mouse') show(nearest(e.clientX)); });
    stage.addEventListener('pointerleave', (e) => { if (e.pointerType === 'mouse' && document.activeElement !== stage) clear(); });
    stage.addEventListener('blur', clear);
    stage.addEventListener('focus', () => { if (at < 0 && stage.matches(':focus-visible')) show(0); });
    stage.addEventListener('keydown', (e) => {
      const page = Math.max(2, Math.round(rows.length / 10));
      const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -page, PageUp: page }[e.key];
      if (e.ctrlKey || e.altKey || e.metaKey) return;
      if (step) show((at < 0 ? 0 : at) + step);
      else if (e.key === 'Home') show(0);
      else if (e.key === 'End') show(rows.length - 1);
      else if (e.key === 'Escape') clear();
      else return;
      e.preventDefault();
    });
  }
  // A finger elsewhere puts the values away.
  document.addEventListener('pointerdown', (e) => { if (!e.target.closest('.stage')) hide(); });
  window.addEventListener('resize', hide);
})();
