// A time in steps, as bars, stacked; the pointer or the arrow keys read a step.
import {html, useState} from '../vendor/preact.js';
import {clock, NONE, number} from './format.js';

const WIDTH = 600;

function ceiling(most) {
	if (!(most > 0)) return 1;
	const power = 10 ** Math.floor(Math.log10(most));
	return [1, 2, 2.5, 5, 10].map((each) => each * power).find((each) => each >= most);
}

// Jobs that ended, by how.
export const outcomes = ({failure, canceled, success}) => [{name: 'failed', values: failure, tone: 'failure'}, {name: 'canceled', values: canceled, tone: 'canceled'}, {name: 'succeeded', values: success, tone: 'success'}];

// series: [{name, values, tone}], from the bottom up.
export function Chart({minutes, series, label, unit, say = number, height = 130}) {
	const [at, set] = useState(null);
	const count = minutes.length;
	const sums = minutes.map((_, k) => series.reduce((sum, each) => sum + (each.values[k] ?? 0), 0));
	const top = ceiling(Math.max(...sums, 0));
	const wide = WIDTH / Math.max(count, 1);
	const gap = count > 100 ? 0 : 0.12;
	const read = (k) => `${clock(minutes[k])}: ${series.map((each) => `${each.values[k] === null ? NONE : say(each.values[k] ?? 0)} ${each.name}`).join(', ')}`;
	const pointed = (event) => {
		const box = event.currentTarget.getBoundingClientRect();
		set(Math.min(Math.max(Math.floor(((event.clientX - box.left) / box.width) * count), 0), count - 1));
	};
	const keyed = (event) => {
		const by = {ArrowLeft: -1, ArrowRight: 1}[event.key];
		if (!by) return;
		event.preventDefault();
		set(Math.min(Math.max((at ?? (by > 0 ? -1 : count)) + by, 0), count - 1));
	};
	const bars = series.map((each, n) => minutes.map((_, k) => {
		const value = each.values[k] ?? 0;
		if (!value) return null;
		const below = series.slice(0, n).reduce((sum, one) => sum + (one.values[k] ?? 0), 0);
		const tall = Math.max((value / top) * height, 2); // what is there is seen
		return html`<rect key=${`${n}-${k}`} class=${each.tone} x=${(k + gap) * wide} width=${wide * (1 - 2 * gap)} y=${height - (below / top) * height - tall} height=${tall} />`;
	}));
	return html`<figure class="chart"><figcaption>${series.map((each) => html`<span key=${each.name}><i class=${each.tone} aria-hidden></i>${each.name}</span>`)}<span class="muted">${unit}</span>
			<output aria-live="polite">${at == null || at >= count ? '' : read(at)}</output></figcaption>
		<div class="plot"><div class="scale" aria-hidden><span>${say(top)}</span><span>${say(top / 2)}</span><span>0</span></div>
			<svg viewBox=${`0 0 ${WIDTH} ${height}`} preserveAspectRatio="none" role="img" tabindex="0" aria-label=${`${label}. ${count ? `Latest: ${read(count - 1)}` : 'No data yet'}`}
				onPointerMove=${pointed} onPointerLeave=${() => set(null)} onKeyDown=${keyed} onBlur=${() => set(null)}>
				${[0, 0.5, 1].map((share) => html`<line class="grid" x1="0" x2=${WIDTH} y1=${share * height} y2=${share * height} />`)}
				${at != null && at < count && html`<rect class="cursor" x=${at * wide} width=${wide} y="0" height=${height} />`}${bars.reverse()}</svg></div>
		<div class="when" aria-hidden>${count > 0 && [0, Math.floor(count / 2), count - 1].map((k) => html`<span>${clock(minutes[k]).replace(/:\d\d$/, '')}</span>`)}</div></figure>`;
}
