//! `modules.itertools`: the functions dbt exposes, as lists. The endless ones are refused, since a template cannot stop
//! them.

use super::{
    super::{
        Arguments, Interpreter, RenderError, Value,
        ast::BinaryOperator,
        operators::{self, iterate},
    },
    module as module_of, native,
};

/// A template that asks for more has a mistake.
const LIMIT: usize = 1_000_000;

fn count(value: Option<&Value>) -> Option<usize> {
    value.and_then(Value::as_int).and_then(|number| usize::try_from(number).ok())
}

fn columns(arguments: &Arguments) -> Result<Vec<Vec<Value>>, RenderError> {
    arguments.positional.iter().map(iterate).collect()
}

fn endless(name: &str) -> RenderError {
    RenderError::not_supported(format!("modules.itertools.{name}() without an end"))
}

fn tuples(items: Vec<Vec<Value>>) -> Value {
    Value::list(items.into_iter().map(Value::tuple).collect())
}

/// All ways to pick `size` of `pool`, by position.
fn pick(pool: &[Value], size: usize, allowed: fn(&[usize], usize) -> bool) -> Result<Value, RenderError> {
    let mut picked = Vec::new();
    let mut current = Vec::new();
    fn walk(
        pool: &[Value],
        size: usize,
        allowed: fn(&[usize], usize) -> bool,
        current: &mut Vec<usize>,
        picked: &mut Vec<Vec<Value>>,
    ) -> Result<(), RenderError> {
        if current.len() == size {
            if picked.len() >= LIMIT {
                return Err(RenderError::compilation("too many combinations"));
            }
            picked.push(current.iter().map(|index| pool[*index].clone()).collect());
            return Ok(());
        }
        for index in 0..pool.len() {
            if allowed(current, index) {
                current.push(index);
                walk(pool, size, allowed, current, picked)?;
                current.pop();
            }
        }
        Ok(())
    }
    walk(pool, size, allowed, &mut current, &mut picked)?;
    Ok(tuples(picked))
}

fn product(_interpreter: &mut Interpreter<'_>, mut arguments: Arguments) -> Result<Value, RenderError> {
    let repeat = count(arguments.take_keyword("repeat").as_ref()).unwrap_or(1);
    let pools = columns(&arguments)?;
    let pools = std::iter::repeat_n(pools, repeat).flatten();
    let mut result = vec![Vec::new()];
    for pool in pools {
        if result.len().saturating_mul(pool.len()) > LIMIT {
            return Err(RenderError::compilation("the product is too large"));
        }
        result = result
            .iter()
            .flat_map(|prefix: &Vec<Value>| {
                pool.iter().map(move |item| prefix.iter().cloned().chain([item.clone()]).collect())
            })
            .collect();
    }
    Ok(tuples(result))
}

pub(super) fn module() -> Value {
    module_of(vec![
        (
            "chain",
            native("chain", |_, arguments| Ok(Value::list(columns(&arguments)?.into_iter().flatten().collect()))),
        ),
        ("product", native("product", product)),
        (
            "combinations",
            native("combinations", |_, arguments| {
                let [pool, size] = arguments.bind("combinations", ["iterable", "r"], 2)?;
                pick(&iterate(&pool.unwrap_or_default())?, count(size.as_ref()).unwrap_or(0), |current, index| {
                    current.last().is_none_or(|last| *last < index)
                })
            }),
        ),
        (
            "combinations_with_replacement",
            native("combinations_with_replacement", |_, arguments| {
                let [pool, size] = arguments.bind("combinations_with_replacement", ["iterable", "r"], 2)?;
                pick(&iterate(&pool.unwrap_or_default())?, count(size.as_ref()).unwrap_or(0), |current, index| {
                    current.last().is_none_or(|last| *last <= index)
                })
            }),
        ),
        (
            "permutations",
            native("permutations", |_, arguments| {
                let [pool, size] = arguments.bind("permutations", ["iterable", "r"], 1)?;
                let pool = iterate(&pool.unwrap_or_default())?;
                let size = count(size.as_ref()).unwrap_or(pool.len());
                pick(&pool, size, |current, index| !current.contains(&index))
            }),
        ),
        (
            "islice",
            native("islice", |_, arguments| {
                let items = iterate(arguments.positional.first().unwrap_or(&Value::None))?;
                let part = |index: usize| arguments.positional.get(index);
                let (start, stop) = match part(2) {
                    Some(stop) => (count(part(1)).unwrap_or(0), count(Some(stop)).unwrap_or(items.len())),
                    None => (0, count(part(1)).unwrap_or(items.len())),
                };
                let step = count(part(3)).unwrap_or(1).max(1);
                Ok(Value::list(items.into_iter().take(stop).skip(start).step_by(step).collect()))
            }),
        ),
        (
            "zip_longest",
            native("zip_longest", |_, mut arguments| {
                let fill = arguments.take_keyword("fillvalue").unwrap_or_default();
                let columns = columns(&arguments)?;
                let length = columns.iter().map(Vec::len).max().unwrap_or(0);
                let row =
                    |index: usize| columns.iter().map(|column| column.get(index).unwrap_or(&fill).clone()).collect();
                Ok(tuples((0..length).map(row).collect()))
            }),
        ),
        (
            "compress",
            native("compress", |_, arguments| {
                let [data, selectors] = arguments.bind("compress", ["data", "selectors"], 2)?;
                let data = iterate(&data.unwrap_or_default())?;
                let selectors = iterate(&selectors.unwrap_or_default())?;
                let kept = data.into_iter().zip(selectors).filter(|(_, keep)| keep.is_true());
                Ok(Value::list(kept.map(|(item, _)| item).collect()))
            }),
        ),
        (
            "accumulate",
            native("accumulate", |interpreter, arguments| {
                let [items, function, initial] = arguments.bind("accumulate", ["iterable", "func", "initial"], 1)?;
                let mut total = initial.filter(|initial| !initial.is_none());
                let mut result: Vec<Value> = total.iter().cloned().collect();
                for item in iterate(&items.unwrap_or_default())? {
                    let next = match (&total, &function) {
                        (None, _) => item,
                        (Some(total), Some(function)) if !function.is_none() => {
                            interpreter.call(function, Arguments::positional(vec![total.clone(), item]))?
                        }
                        (Some(total), _) => operators::binary(BinaryOperator::Add, total, &item)?,
                    };
                    result.push(next.clone());
                    total = Some(next);
                }
                Ok(Value::list(result))
            }),
        ),
        (
            "starmap",
            native("starmap", |interpreter, arguments| {
                let [function, items] = arguments.bind("starmap", ["function", "iterable"], 2)?;
                let function = function.unwrap_or_default();
                let mut result = Vec::new();
                for item in iterate(&items.unwrap_or_default())? {
                    result.push(interpreter.call(&function, Arguments::positional(iterate(&item)?))?);
                }
                Ok(Value::list(result))
            }),
        ),
        (
            "tee",
            native("tee", |_, arguments| {
                let [items, copies] = arguments.bind("tee", ["iterable", "n"], 1)?;
                let items = iterate(&items.unwrap_or_default())?;
                let copies = count(copies.as_ref()).unwrap_or(2);
                Ok(Value::tuple((0..copies).map(|_| Value::list(items.clone())).collect()))
            }),
        ),
        (
            "repeat",
            native("repeat", |_, arguments| {
                let [item, times] = arguments.bind("repeat", ["object", "times"], 1)?;
                match count(times.as_ref()) {
                    Some(times) => Ok(Value::list(vec![item.unwrap_or_default(); times.min(LIMIT)])),
                    None => Err(endless("repeat")),
                }
            }),
        ),
        ("count", native("count", |_, _| Err(endless("count")))),
        ("cycle", native("cycle", |_, _| Err(endless("cycle")))),
    ])
}
