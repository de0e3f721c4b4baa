//! The charts of one run.

use super::data::Curve;
use super::data::time::{Cell, Column, Columns, LEVELS};
use super::plot::axis::Axis;
use super::plot::heat::Heat;
use super::plot::unit::Unit;
use super::plot::{Chart, Line, Table};

/// Percentiles that tables name.
const NAMED: [f64; 19] = [
    0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9998, 0.9999,
    0.99995, 0.99999, 0.999995, 0.999999, 1.0,
];

/// A percentile curve with its name.
pub(super) struct Named<'a> {
    pub(super) name: String,
    pub(super) style: usize,
    pub(super) dashed: bool,
    pub(super) curve: &'a Curve,
}

/// Latency by percentile.
pub(super) fn percentiles(id: &str, title: &str, curves: &[Named<'_>]) -> Chart {
    let most = curves.iter().map(|c| c.curve.count).max().unwrap_or(1) as f64;
    let all = curves
        .iter()
        .flat_map(|c| c.curve.points.iter().map(|p| p.1));
    let mut chart = Chart::new(id, title, Axis::percentile(most), Axis::latency(all));
    for c in curves {
        chart.lines.push(Line {
            name: c.name.clone(),
            style: c.style,
            dashed: c.dashed,
            points: c.curve.by_rank().collect(),
        });
    }
    chart.table = Table {
        head: std::iter::once("percentile".to_owned())
            .chain(curves.iter().map(|c| c.name.clone()))
            .collect(),
        // Beyond what any of them has seen there is nothing to tell.
        rows: NAMED
            .into_iter()
            .filter(|q| *q == 1.0 || 1.0 / (1.0 - q) <= most)
            .map(|q| {
                let x = (1.0 / (1.0 - q).max(1e-12)).min(most);
                let name = match q {
                    1.0 => "max".to_owned(),
                    q => format!("{} %", (q * 1e8).round() / 1e6),
                };
                let cells = curves.iter().map(|c| {
                    let v = c
                        .curve
                        .at(q)
                        .filter(|_| q == 1.0 || c.curve.count as f64 >= 1.0 / (1.0 - q));
                    v.map_or_else(|| "–".into(), |v| Unit::Nanos.show(v))
                });
                (x, std::iter::once(name).chain(cells).collect())
            })
            .collect(),
        tip: curves.len() + 1,
    };
    chart.note = format!(
        "Latency by percentile of {}, both axes logarithmic.",
        list(curves.iter().map(|c| c.name.as_str()))
    );
    chart
}

/// How a quantity is taken from a column.
type Take<'a> = Box<dyn Fn(&Column) -> Option<f64> + 'a>;

/// Quantities over time, zero-based unless the axis says otherwise.
fn over_time(
    id: &str,
    title: &str,
    columns: &Columns,
    unit: Unit,
    axis: impl FnOnce(&mut dyn Iterator<Item = f64>) -> Axis,
    quantities: Vec<(String, Take<'_>)>,
) -> Chart {
    let values = |take: &Take<'_>| -> Vec<f64> {
        let list = columns.list.iter();
        list.map(|c| take(c).unwrap_or(f64::NAN)).collect()
    };
    let all: Vec<Vec<f64>> = quantities.iter().map(|(_, take)| values(take)).collect();
    let y = axis(&mut all.iter().flatten().copied());
    let mut chart = Chart::new(id, title, time_axis(columns), y);
    for (i, ((name, _), values)) in quantities.iter().zip(&all).enumerate() {
        let mut points: Vec<(f64, f64)> = Vec::new();
        for (j, (c, v)) in columns.list.iter().zip(values).enumerate() {
            // Time that nothing covers is a gap, not a straight line.
            if j > 0 && c.begin - columns.list[j - 1].end > 0.5 * (c.end - c.begin) {
                points.push((c.begin, f64::NAN));
            }
            points.push((c.middle(), *v));
        }
        chart.lines.push(Line {
            name: name.clone(),
            style: i,
            dashed: false,
            points,
        });
    }
    let rows = columns.list.iter().enumerate().map(|(j, c)| {
        let cells = all.iter().map(|values| unit.show(values[j]));
        (c.middle(), std::iter::once(when(c)).chain(cells).collect())
    });
    chart.table = Table {
        head: std::iter::once("time".to_owned())
            .chain(quantities.iter().map(|q| q.0.clone()))
            .collect(),
        rows: rows.collect(),
        tip: quantities.len() + 1,
    };
    mark(&mut chart, columns);
    chart.note = format!(
        "{} over time.",
        list(quantities.iter().map(|q| q.0.as_str()))
    );
    chart
}

fn mark(chart: &mut Chart, columns: &Columns) {
    chart.spans = columns.phases();
    let checkpoints = columns.list.iter().filter(|c| c.checkpoints > 0);
    chart.marks = checkpoints.map(Column::middle).collect();
    chart.mark = "checkpoint".into();
}

fn time_axis(columns: &Columns) -> Axis {
    let begin = columns.list.first().map_or(0.0, |c| c.begin);
    let end = columns.list.last().map_or(1.0, |c| c.end);
    Axis::time("time since the start", begin, end)
}

/// Operations a second, in the phases that `meant` picks by name.
pub(super) fn throughput(
    id: &str,
    title: &str,
    columns: &Columns,
    meant: &dyn Fn(&str) -> bool,
) -> Chart {
    let inside = |c: &Column, name: &str| {
        let cell = cell(c, name).filter(|_| meant(&c.phase))?;
        Some(cell.count as f64 / c.seconds)
    };
    let inside = &inside;
    let operations = columns.operations();
    let done = |name: &&String| columns.list.iter().any(|c| inside(c, name).is_some());
    let quantities = operations.iter().filter(done).map(|name| {
        let take = move |c: &Column| inside(c, name);
        (name.clone(), Box::new(take) as Take<'_>)
    });
    let chart = over_time(
        id,
        title,
        columns,
        Unit::PerSecond,
        |v| Axis::from_zero("operations a second", Unit::Count, v),
        quantities.collect(),
    );
    narrowed(chart, columns, &|c| meant(&c.phase))
}

/// Percentiles of one operation over time, the highest first.
pub(super) fn latency(columns: &Columns, operation: &str) -> Chart {
    let quantities = LEVELS.iter().enumerate().rev().map(|(i, (name, _))| {
        let take = move |c: &Column| cell(c, operation)?.latency[i];
        ((*name).to_owned(), Box::new(take) as Take<'_>)
    });
    let mut chart = over_time(
        &format!("latency-{operation}"),
        &format!("Latency of {operation} over time"),
        columns,
        Unit::Nanos,
        |v| Axis::latency(v),
        quantities.collect(),
    );
    if columns.largest {
        chart.note.push_str(&format!(
            " Each point is the largest of {} seconds.",
            columns.merged
        ));
    }
    narrowed(chart, columns, &|c| cell(c, operation).is_some())
}

/// How long operations of one kind took, and how many.
pub(super) fn heat(columns: &Columns, operation: &str) -> Option<Chart> {
    let with = columns
        .list
        .iter()
        .filter_map(|c| Some((c, cell(c, operation)?)));
    let heat = Heat::of(
        with.clone()
            .map(|(c, cell)| ((c.begin, c.end), c.seconds, &cell.bins)),
    )?;
    let edges = |c: &super::plot::heat::Cell| [c.y.0, c.y.1];
    let y = Axis::latency(heat.cells.iter().flat_map(edges));
    let mut chart = Chart::new(
        &format!("heat-{operation}"),
        &format!("All latencies of {operation}"),
        time_axis(columns),
        y,
    );
    chart.heat = Some(heat);
    mark(&mut chart, columns);
    let (bounds, names) = bands(&chart.y);
    chart.table.head = ["time", "operations"]
        .map(str::to_owned)
        .into_iter()
        .chain(LEVELS.map(|(name, _)| name.to_owned()))
        .chain(names)
        .collect();
    chart.table.tip = 2 + LEVELS.len();
    chart.table.rows = with
        .map(|(c, cell)| {
            let mut row = vec![when(c), Unit::Count.show(cell.bins.len() as f64)];
            row.extend(
                cell.latency
                    .map(|v| Unit::Nanos.show(v.unwrap_or(f64::NAN))),
            );
            row.extend(bounds.windows(2).map(|b| {
                let inside = cell.bins.0.range(b[0]..b[1]).map(|(_, n)| n).sum::<u64>();
                Unit::Count.show(inside as f64)
            }));
            (c.middle(), row)
        })
        .collect();
    chart.note = format!(
        "How many operations of {operation} took how long, over time: darker is more on light ground."
    );
    Some(narrowed(chart, columns, &|c| cell(c, operation).is_some()))
}

/// Bounds of latency for tables: 1, 3, 10 …, and their names.
fn bands(axis: &Axis) -> (Vec<u64>, Vec<String>) {
    let mut bounds = Vec::new();
    let mut at = 10_f64.powf(axis.low.log10().floor());
    while at < axis.high * 3.5 && bounds.len() < 40 {
        for m in [1.0, 3.0] {
            if at * m * 3.4 > axis.low && at * m < axis.high * 3.4 {
                bounds.push((at * m) as u64);
            }
        }
        at *= 10.0;
    }
    let name = |b: &[u64]| format!("< {}", Unit::Nanos.tick(b[1] as f64, 1.0));
    let names = bounds.windows(2).map(name).collect();
    (bounds, names)
}

/// Only the time from the first to the last column that is meant.
fn narrowed(mut chart: Chart, columns: &Columns, meant: &dyn Fn(&Column) -> bool) -> Chart {
    let with = |c: &&Column| meant(c);
    let (Some(first), Some(last)) = (
        columns.list.iter().find(with),
        columns.list.iter().rfind(with),
    ) else {
        return chart;
    };
    let (low, high) = (first.begin, last.end);
    chart.x = Axis::time(&chart.x.title, low, high);
    let inside = |x: f64| x >= low && x <= high;
    chart.table.rows.retain(|r| inside(r.0));
    chart.marks.retain(|x| inside(*x));
    chart.spans.retain(|s| s.2 > low && s.1 < high);
    for span in &mut chart.spans {
        (span.1, span.2) = (span.1.max(low), span.2.min(high));
    }
    for line in &mut chart.lines {
        line.points.retain(|p| inside(p.0));
    }
    chart
}

/// What the device did: requests, and bytes.
pub(super) fn device(columns: &Columns) -> [Chart; 2] {
    let per = |f: fn(&super::data::summary::Device) -> u64| {
        let take = move |c: &Column| Some(f(c.device.as_ref()?) as f64 / c.seconds);
        Box::new(take) as Take<'_>
    };
    let some = |f: fn(&super::data::summary::Device) -> u64| {
        columns
            .list
            .iter()
            .filter_map(|c| c.device.as_ref())
            .any(|d| f(d) > 0)
    };
    let mut requests = vec![
        ("reads".to_owned(), per(|d| d.reads)),
        ("writes".to_owned(), per(|d| d.writes)),
        ("flushes".to_owned(), per(|d| d.flushes)),
    ];
    let mut bytes = vec![
        ("read".to_owned(), per(|d| d.read_bytes)),
        ("written".to_owned(), per(|d| d.written_bytes)),
    ];
    if some(|d| d.discards) {
        requests.push(("discards".into(), per(|d| d.discards)));
        bytes.push(("discarded".into(), per(|d| d.discarded_bytes)));
    }
    [
        over_time(
            "device-requests",
            "Requests to the device",
            columns,
            Unit::PerSecond,
            |v| Axis::from_zero("requests a second", Unit::Count, v),
            requests,
        ),
        over_time(
            "device-bytes",
            "Bytes to and from the device",
            columns,
            Unit::BytesPerSecond,
            |v| Axis::from_zero("bytes a second", Unit::BytesPerSecond, v),
            bytes,
        ),
    ]
}

/// Amplification, hit rate, memory, and what the host took.
pub(super) fn engine(columns: &Columns, bound: Option<u64>) -> Vec<Chart> {
    let one = |name: &str, f: Take<'static>| vec![(name.to_owned(), f)];
    let mut charts = vec![
        over_time(
            "amplification",
            "Write amplification",
            columns,
            Unit::Ratio,
            |v| {
                Axis::from_zero(
                    "bytes written to the device for one of the user's",
                    Unit::Ratio,
                    v,
                )
            },
            one("write amplification", Box::new(|c| c.write_amplification)),
        ),
        over_time(
            "hit-rate",
            "Hit rate",
            columns,
            Unit::Share,
            |_| Axis::share("nodes found in the cache"),
            one("hit rate", Box::new(|c| c.hit_rate)),
        ),
    ];
    let mut memory = one("resident", Box::new(|c: &Column| c.resident_bytes));
    if let Some(bound) = bound {
        memory.push(("bound".into(), Box::new(move |_| Some(bound as f64))));
    }
    let any = columns.list.iter().any(|c| c.resident_bytes.is_some());
    if any {
        charts.push(over_time(
            "memory",
            "Memory",
            columns,
            Unit::Bytes,
            |v| Axis::from_zero("resident memory of the process", Unit::Bytes, v),
            memory,
        ));
    }
    if columns
        .list
        .iter()
        .any(|c| c.steal.is_some_and(|s| s > 0.0))
    {
        charts.push(over_time(
            "steal",
            "Processor time the host took",
            columns,
            Unit::Share,
            |v| Axis::from_zero("share of processor time", Unit::Share, v),
            one("steal", Box::new(|c| c.steal)),
        ));
    }
    charts
}

fn cell<'a>(c: &'a Column, operation: &str) -> Option<&'a Cell> {
    c.operations.get(operation).filter(|cell| cell.count > 0)
}

/// A column's time, for tables.
fn when(c: &Column) -> String {
    format!("{:.1}–{:.1} s", c.begin.max(0.0), c.end)
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}
