//! `for`, and what `loop` says inside of it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use parking_lot::Mutex;

use super::{
    super::{Arguments, Object, RenderError, Undefined, Value, ast::ForLoop, operators},
    Flow, Interpreter, Scope,
};

impl Interpreter<'_> {
    pub(super) fn for_loop(
        &mut self,
        for_loop: &Arc<ForLoop>,
        iterable: &Value,
        depth: usize,
    ) -> Result<(), RenderError> {
        let place = for_loop.iterable.place;
        let mut items = operators::iterate(iterable).map_err(|error| self.located(error, place))?;
        if let Some(condition) = &for_loop.condition {
            let mut kept = Vec::with_capacity(items.len());
            for item in items {
                let outer = self.enter();
                let result = self.assign(&for_loop.target, item.clone()).and_then(|()| self.evaluate(condition));
                self.scope = outer;
                if result?.is_true() {
                    kept.push(item);
                }
            }
            items = kept;
        }
        if items.is_empty() {
            let outer = self.enter();
            let result = self.block(&for_loop.otherwise);
            self.scope = outer;
            return result.map(|_| ());
        }
        let state = for_loop.uses_loop.then(|| {
            Arc::new(Loop {
                items: items.clone(),
                index: AtomicUsize::new(0),
                depth,
                body: Arc::clone(for_loop),
                scope: Arc::clone(&self.scope),
                changed: Mutex::new(None),
            })
        });
        for (index, item) in items.into_iter().enumerate() {
            let outer = self.enter();
            if let Some(state) = &state {
                state.index.store(index, Ordering::Relaxed);
                self.scope.set("loop".into(), Value::Object(Arc::clone(state) as Arc<dyn Object>));
            }
            let result = self
                .assign(&for_loop.target, item)
                .map_err(|error| self.located(error, place))
                .and_then(|()| self.block(&for_loop.body));
            self.scope = outer;
            if result? == Flow::Break {
                break;
            }
        }
        Ok(())
    }
}

/// Jinja2's `loop`.
struct Loop {
    items: Vec<Value>,
    index: AtomicUsize,
    depth: usize,
    body: Arc<ForLoop>,
    scope: Arc<Scope>,
    changed: Mutex<Option<Vec<Value>>>,
}

impl Object for Loop {
    fn type_name(&self) -> &str {
        "LoopContext"
    }

    fn is_callable(&self) -> bool {
        self.body.recursive
    }

    fn length(&self) -> Option<usize> {
        Some(self.items.len())
    }

    fn has_method(&self, name: &str) -> bool {
        matches!(name, "cycle" | "changed")
    }

    fn attribute(&self, name: &str, interpreter: &mut Interpreter<'_>) -> Result<Option<Value>, RenderError> {
        let index = self.index.load(Ordering::Relaxed);
        let length = self.items.len();
        let neighbour = |item: Option<&Value>, what: &str| {
            item.cloned().unwrap_or_else(|| {
                Value::Undefined(Arc::new(Undefined {
                    name: String::new(),
                    hint: Some(format!("there is no {what} item")),
                    lenient: interpreter.lenient,
                }))
            })
        };
        Ok(Some(match name {
            "index" => Value::from(index + 1),
            "index0" => Value::from(index),
            "revindex" => Value::from(length - index),
            "revindex0" => Value::from(length - index - 1),
            "first" => Value::Bool(index == 0),
            "last" => Value::Bool(index + 1 == length),
            "length" => Value::from(length),
            "depth" => Value::from(self.depth + 1),
            "depth0" => Value::from(self.depth),
            "previtem" => neighbour(index.checked_sub(1).and_then(|index| self.items.get(index)), "previous"),
            "nextitem" => neighbour(self.items.get(index + 1), "next"),
            _ => return Ok(None),
        }))
    }

    fn call_method(
        self: Arc<Self>,
        name: &str,
        arguments: &Arguments,
        _interpreter: &mut Interpreter<'_>,
    ) -> Result<Option<Value>, RenderError> {
        Ok(Some(match name {
            "cycle" => {
                if arguments.positional.is_empty() {
                    return Err(operators::type_error("no items for cycling given"));
                }
                let index = self.index.load(Ordering::Relaxed) % arguments.positional.len();
                arguments.positional[index].clone()
            }
            "changed" => {
                let mut last = self.changed.lock();
                let same = last.as_ref() == Some(&arguments.positional);
                *last = Some(arguments.positional.clone());
                Value::Bool(!same)
            }
            _ => return Ok(None),
        }))
    }

    fn call(self: Arc<Self>, arguments: Arguments, interpreter: &mut Interpreter<'_>) -> Result<Value, RenderError> {
        if !self.body.recursive {
            return Err(operators::type_error("The loop must have the 'recursive' marker to be called recursively."));
        }
        interpreter.check_depth()?;
        let [items] = arguments.bind("loop", ["iterable"], 1)?;
        let outer_scope = std::mem::replace(&mut interpreter.scope, Arc::clone(&self.scope));
        let outer_output = std::mem::take(&mut interpreter.output);
        let marks = interpreter.marks.take();
        interpreter.nesting += 1;
        let result = interpreter.for_loop(&self.body, &items.unwrap_or_default(), self.depth + 1);
        interpreter.nesting -= 1;
        interpreter.marks = marks;
        let text = std::mem::replace(&mut interpreter.output, outer_output);
        interpreter.scope = outer_scope;
        result?;
        Ok(Value::str(text))
    }
}
