// Schedules: when each is due, what became of its last ticks; paused, run by hand, made and changed.
import {html, useState} from '../vendor/preact.js';
import {api, useApi, useMay, useNow} from './data.js';
import {number, span, visible} from './format.js';
import {go, inPath} from './router.js';
import {Names} from './jobs.js';
import {joined, SchemaForm, Shaped, useFields} from './form.js';
import {Act, Cards, Dialog, Empty, Facts, Json, Panel, Run, Script, Shown, State, Sure, Time} from './parts.js';

const of = (name) => `/schedules/${encodeURIComponent(name)}`;
const TONES = {active: 'success', paused: 'waiting', over: 'queued'};
const when = ({cron, every: seconds, at}) => (cron ? html`<code>${visible(cron)}</code>` : seconds ? `every ${span(seconds * 1000)}` : html`once, <${Time} at=${at} />`);
const zone = (each) => each.cron && html`<div class="muted">${visible(each.timezone)}</div>`;

export function Schedules() {
	const it = useApi('/schedules', {query: {limit: 1000}, every: 3000});
	const may = useMay();
	const now = useNow();
	const [making, make] = useState(false);
	return html`<div class="head"><h1>Schedules</h1>${may('run') && html`<div class="actions"><button class="main" onClick=${() => make(true)}>New schedule …</button></div>`}</div>
		<${Shown} it=${it} what="Looking for schedules">${({schedules}) => (schedules.length ? html`<${Cards} of=${['Schedule', 'Script', 'When', 'State', 'Next', 'Last', '>Ticks']}>${schedules.map((each) => html`<tr key=${each.name} data-row class=${each.state === 'active' ? '' : 'quiet'}><td><a class="script" href=${`/schedules/${inPath(each.name)}`}>${visible(each.name)}</a>${each.last_error && html`<div class="why" title=${visible(each.last_error)}>${visible(each.last_error)}</div>`}</td>
				<td><${Script} of=${each.script} /></td><td>${when(each)}${zone(each)}</td><td><${State} of=${TONES[each.state] ?? 'queued'}>${each.state}<//></td>
				<td><${Time} at=${each.state === 'active' ? each.next_at : null} relative now=${now} /></td><td><a href=${each.last_job && `/jobs/${each.last_job}`}><${Time} at=${each.last_at} relative now=${now} /></a></td>
				<td class="right">${number(each.ticks)}${each.missed + each.skipped + each.refused > 0 && html`<div class="muted">${counts(each)}</div>`}</td></tr>`)}<//>`
			: html`<${Empty} title="No schedules yet">A schedule has a script run at times of its own. ${may('run') ? html`<button onClick=${() => make(true)}>New schedule …</button>` : html`<code>hotpath schedule set nightly --script NAME --cron '30 2 * * *'</code>`}<//>`)}<//>
		${making && html`<${Editor} close=${() => make(false)} saved=${(made) => go(`/schedules/${inPath(made.name)}`)} />`}`;
}

const counts = (each) => ['missed', 'skipped', 'refused'].filter((key) => each[key]).map((key) => `${number(each[key])} ${key}`).join(', ');

export function Schedule({of: [name]}) {
	const it = useApi(of(name), {query: {next: 10}, every: 3000});
	const ticks = useApi(`${of(name)}/ticks`, {query: {limit: 30}, every: 3000});
	const may = useMay();
	const now = useNow();
	const [editing, edit] = useState(false);
	if (it.error?.status === 404) return html`<div class="head"><h1>${visible(name)}</h1></div><${Empty} title=${`There is no schedule ${visible(name)}`}><a href="/schedules">All schedules</a>.<//>`;
	const act = (what) => async () => {
		await api(`${of(name)}/${what}`, {method: 'POST'});
		it.reload();
		ticks.reload();
	};
	const run = async () => {
		const {id} = await api(`${of(name)}/run`, {method: 'POST'});
		ticks.reload();
		return html`<a href=${`/jobs/${id}`}>its job</a>`;
	};
	const remove = async () => {
		await api(of(name), {method: 'DELETE'});
		go('/schedules');
	};
	return html`<${Shown} it=${it} what="Looking at the schedule">${(each) => html`<div class="head job"><div><h1><${State} of=${TONES[each.state] ?? 'queued'}>${each.state}<//>${visible(each.name)} <span class="muted">schedule</span></h1><p class="sub"><${Script} of=${each.script} /> ${when(each)} ${each.cron && `in ${visible(each.timezone)}`}</p></div>
			${may('run') ? html`<div class="actions"><${Act} act=${run}>Run now<//>${each.state === 'paused' ? html`<${Act} act=${act('resume')}>Resume<//>` : each.state === 'active' && html`<${Act} act=${act('pause')}>Pause<//>`}<button onClick=${() => edit(true)}>Change …</button><${Sure} name=${name} act=${remove} /></div>` : ''}</div>
		${each.last_error && html`<${Panel} title="The last tick could not become a job" tone="failed"><p class="message">${visible(each.last_error)}</p><p class="muted pad">at <${Time} at=${each.last_error_at} /></p><//>`}
		<div class="pair"><${Panel} title="What it is"><${Facts} of=${[['Overlap', {allow: 'allowed', skip: 'skipped', queue_one: 'one waits'}[each.overlap]], ['Missed ticks', {none: 'forgotten', last: 'the last is caught up', all: 'all are caught up'}[each.catch_up]], each.catch_up !== 'none' && ['Not those older than', span(each.catch_up_within * 1000)], ['Tag', each.tag == null ? 'the script’s own' : visible(each.tag)], each.priority !== 0 && ['Priority', each.priority], each.timeout != null && ['Time-out', span(each.timeout * 1000)],
				['Ticks', number(each.ticks)], ['Not made', counts(each) || 'none'], each.held_at && ['Held until the job before ends', html`<${Time} at=${each.held_at} />`]]} /><${Json} value=${each.args} label="Args" /><//>
			<${Panel} title="Next ticks" aside=${html`<span class="muted">your time</span>`}>${each.next.length && each.state === 'active' ? html`<ol class="ticks">${each.next.map((at) => html`<li key=${at}><${Time} at=${at} /> <span class="muted"><${Time} at=${at} relative now=${now} /></span></li>`)}</ol>` : html`<${Empty} title=${each.state === 'paused' ? 'It is paused' : 'None to come'} />`}<//></div>
		<${Panel} title="Last ticks"><${Shown} it=${ticks} what="Looking for jobs">${(data) => (data.ticks.length ? html`<${Cards} of=${['Tick', 'Job', 'State', '>Took']}>${data.ticks.map((tick) => html`<tr key=${tick.job ?? tick.at} data-row><td><${Time} at=${tick.at} />${tick.by_hand && html` <span class="muted">by hand</span>`}</td>
			<td>${tick.state ? html`<${Run} of=${tick.job} />` : html`<span class="muted">not kept any more</span>`}</td><td>${tick.state && html`<${State} of=${tick.state} />`}</td><td class="right">${span(tick.duration_ms)}</td></tr>`)}<//>` : html`<${Empty} title="It has not ticked yet" />`)}<//><//>
		${editing && html`<${Editor} schedule=${each} close=${() => edit(false)} saved=${() => { edit(false); it.reload(); }} />`}`}<//>`;
}

const SCRIPT = {script: {type: 'string', list: 'set-scripts'}};
const FIRST = {name: {type: 'string', needed: true}, ...SCRIPT};

function Editor({schedule, close, saved}) {
	return html`<${Dialog} title=${schedule ? `Change the schedule ${schedule.name}` : 'New schedule'} close=${close}><${Shaped} of="NewSchedule" more=${schedule ? SCRIPT : FIRST} less=${['args']}>${(shape) => html`<${Form} shape=${shape} schedule=${schedule} close=${close} saved=${saved} />`}<//><//>`;
}

function Form({shape, schedule, close, saved}) {
	const known = useApi('/scripts');
	const fields = useFields(shape, schedule ?? {timezone: Intl.DateTimeFormat().resolvedOptions().timeZone}, 'set');
	const {script, every: often, name} = fields.texts;
	const found = known.data?.scripts.find((each) => each.script === script);
	const submit = async (json) => {
		const [pairs, wrong] = fields.compose();
		if (fields.point(wrong)) return;
		// `last` is what it is unless said; that was said would have a time that is over run now
		const said = pairs.filter(([key, value]) => key !== 'name' && value !== '"last"' && !(key === 'timezone' && often));
		try {
			saved(await api(of(schedule?.name ?? name.trim()), {method: 'PUT', text: `{${joined([...said, ['args', json]])}}`}));
		} catch (error) {
			if (!fields.refuse(error)) throw error;
		}
	};
	const first = fields.names.slice(0, fields.names.indexOf('timezone') + 1);
	return html`<div class="grid first">${fields.view(first)}<${Names} id="set-scripts" /></div>
		<${SchemaForm} key=${found?.hash ?? 'none'} schema=${found?.schema} value=${schedule?.script === script ? schedule.args : undefined} submit=${submit} label="Set it" close=${close}>
			<details class="more"><summary>More</summary><div class="grid">${fields.view(fields.names.slice(first.length))}</div></details><//>`;
}
