// History: what queues were like over the last hour to 14 days, all together and by tag.
import {html, useEffect, useState} from '../vendor/preact.js';
import {api, useData} from './data.js';
import {NONE, number, percent, plural, span, sum, visible} from './format.js';
import {address, go} from './router.js';
import {Chart, outcomes} from './chart.js';
import {Cards, Empty, Panel, Shown} from './parts.js';

const RANGES = [['1h', 1, '1 hour'], ['6h', 6, '6 hours'], ['24h', 24, '24 hours'], ['14d', 336, '14 days']];
const TOLD = 5; // tags that have a colour of their own
const most = (values) => values.reduce((top, each) => (each > (top ?? -1) ? each : top), null);
const ended = (each) => each.success.map((n, k) => n + each.failure[k] + each.canceled[k]);
const named = (each) => (each.tag === '*' ? 'others' : visible(each.tag));

export function History({query}) {
	const {tag} = query;
	const [range, hours, words] = RANGES.find(([name]) => name === query.range) ?? RANGES[1];
	const [text, setText] = useState(tag ?? '');
	useEffect(() => setText(tag ?? ''), [tag]);
	const it = useData((signal) => api('/history', {signal, query: {tag, since: new Date(Date.now() - hours * 3600e3).toISOString()}}), [tag, range], {every: 30_000});
	const find = (event) => {
		event.preventDefault();
		go(address('/history', {range: query.range, tag: text.trim()}));
	};
	return html`<div class="head"><h1>History</h1><div class="filters"><div class="ranges" role="group" aria-label="Over">${RANGES.map(([name, , said]) => html`<a key=${name} class="button" aria-current=${name === range ? 'true' : undefined} href=${address('/history', {range: name, tag})}>${said}</a>`)}</div>
			<form role="search" class="filters" onSubmit=${find}><label><span>Tags</span><input type="search" data-search placeholder="all, or etl-*,!etl-slow" value=${text} onInput=${(event) => setText(event.target.value)} /></label><button>Show</button></form></div></div>
		<${Shown} it=${it} what="Looking back">${(data) => html`<${Told} data=${data} range=${query.range} words=${words} tag=${tag} />`}<//>`;
}

function Told({data, range, words, tag}) {
	const {steps, all, tags, step_seconds: step} = data;
	if (!tags.length) return html`<${Empty} title=${tag ? `No tag that fits “${visible(tag)}” had jobs` : 'No jobs in this time'}>${tag ? html`<a href=${address('/history', {range})}>All tags</a>` : 'Look at a longer one.'}<//>`;
	const fullest = tags.filter((each) => each.tag !== '*').slice(0, TOLD);
	const stack = (values) => {
		const told = fullest.map((each, k) => ({name: named(each), values: values(each), tone: `t${k}`}));
		const rest = values(all).map((value, k) => Math.max((value ?? 0) - told.reduce((total, each) => total + (each.values[k] ?? 0), 0), 0));
		return sum(rest) ? [...told, {name: 'others', values: rest, tone: `t${TOLD}`}] : told;
	};
	const parted = (counts) => counts.map((n, k) => (n * 60) / Math.min(step, Math.max((new Date(data.until) - new Date(steps[k])) / 1e3, 60)));
	const gaps = all.waiting.filter((each) => each == null).length;
	const steps_said = step < 3600 ? `${step / 60} min` : `${step / 3600} h`;
	return html`<div class="pair"><${Panel} title="Waiting"><${Chart} minutes=${steps} unit=${`jobs, the most in each ${steps_said}`} label=${`Jobs that waited, by tag, ${words}`} series=${stack((each) => each.waiting)} /><//>
		<${Panel} title="Longest wait"><${Chart} minutes=${steps} unit="of a job that was due" say=${span} label=${`The longest that a job had waited, ${words}`} series=${[{name: 'all tags', values: all.oldest_ms, tone: 'waiting'}]} /><//>
		<${Panel} title="Throughput"><${Chart} minutes=${steps} unit="jobs a minute" label=${`Jobs ended a minute, by tag, ${words}`} series=${stack((each) => parted(ended(each)))} /><//>
		<${Panel} title="How they ended"><${Chart} minutes=${steps} unit="jobs a minute" label=${`Jobs ended a minute, by outcome, ${words}`} series=${outcomes({failure: parted(all.failure), canceled: parted(all.canceled), success: parted(all.success)})} /><//></div>
		${gaps > 0 && html`<p class="muted note">Nobody looked at the queues during ${number(gaps)} of ${plural(steps.length, 'step')}: no worker and no server ran.</p>`}
		<${Panel} title="By tag"><${Cards} of=${['Tag', '>Most that waited', '>Longest wait', '>Ended', '>Failed', '>Retried', '>Mean time']}>${tags.map((each, k) => {
				const all_ended = sum(ended(each));
				const failed = sum(each.failure);
				return html`<tr key=${each.tag} data-row><td class="wide">${fullest.includes(each) && html`<i class=${`dot t${k}`} aria-hidden></i>`}${each.tag === '*' ? html`<span class="muted">all others</span>` : html`<a class="script" href=${address('/history', {range, tag: each.tag})}>${visible(each.tag)}</a>`}</td>
					<td class="right">${number(most(each.waiting))}</td><td class="right">${span(most(each.oldest_ms))}</td><td class="right">${each.tag === '*' ? number(all_ended) : html`<a href=${address('/jobs', {tag: each.tag})}>${number(all_ended)}</a>`}</td>
					<td class=${`right ${failed ? 'bad' : ''}`}>${number(failed)}${failed ? ` (${percent(failed / all_ended)})` : ''}</td><td class="right">${number(sum(each.retried))}</td><td class="right">${all_ended ? span(sum(each.busy_ms) / all_ended) : NONE}</td></tr>`;
			})}<//><//>`;
}
