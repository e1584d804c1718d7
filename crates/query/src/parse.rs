//! From SQL text to a plan, or to a plain sentence about what is not supported and what is instead.
//!
//! The language is what can be priced by looking at the syntax: one SELECT of counts, sums and means over one dataset,
//! filtered, grouped by columns with declared values. Everything else is refused by name; nothing is guessed and
//! nothing is silently left out: every struct of the syntax tree is taken apart field by field, so that a new clause
//! in a new version of the parser is a compile error here and not a clause that we ignore.
//!
//! Does not: decide whether a plan is allowed, or compute its price. A node does not run this code on what a
//! researcher sends: it checks the plan ([`crate::check`]), and the SQL rides along as provenance.
//!
//! **Adversary.** The text comes from anyone. Its length, its number of operators and its nesting are limited before
//! the parser sees it (a long chain of operators is a deep tree, and dropping a deep tree takes stack), and our own
//! recursion is limited by [`MAX_DEPTH`].

use cohortium_messages::{
    Agreement, Arithmetic, Bounding, Column, Comparison, DatasetTerms, Decimal, Hash, Measure, Name, Order, Output,
    OutputColumn, PLAN_VERSION, Plan, Predicate, Scalar, Value,
};
use sqlparser::ast::{
    BinaryOperator, Distinct, DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, GroupByExpr, Ident, LimitClause, ObjectName, OrderBy, OrderByExpr, OrderByKind, OrderByOptions,
    OrderBySort, Query, Select, SelectFlavor, SelectItem, SetExpr, Statement, TableAlias, TableFactor, TableWithJoins,
    UnaryOperator, Value as Literal,
};
use sqlparser::dialect::GenericDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use crate::ask::Ask;
use crate::check::{cells_within_limit, group_values};
use crate::nearest::nearest;
use crate::typing::{Kind, Unsupported, check_predicate, count_of, kind_of, mean_scale, sum_scale};

/// The longest SQL text, in bytes: what a task may carry.
pub const MAX_SQL_BYTES: usize = 65_536;
/// The most tokens that can nest: everything but commas, numbers and texts, so that long lists stay possible. A plan
/// has at most 1000 operators, and each takes a few tokens.
const MAX_STRUCTURE: usize = 3000;
/// The deepest nesting of parentheses: the parser takes up to 100 KB of stack per level in a debug build, and some of
/// its rules try twice per level. Measured: the worst texts of the tests pass on a stack of 1 MiB, in milliseconds.
const MAX_PARENTHESES: usize = 12;
/// Words that no parenthesis may follow: what follows is never supported, and nested tables are what costs the parser
/// most stack.
const BEFORE_TABLES: [Keyword; 5] =
    [Keyword::FROM, Keyword::JOIN, Keyword::STRAIGHT_JOIN, Keyword::LATERAL, Keyword::APPLY];
/// The deepest nesting of an expression that we follow; a plan allows 32.
const MAX_DEPTH: usize = 40;
/// The parser's own limit, against its own recursion (its default).
const PARSER_DEPTH: usize = 50;
/// The longest heading, in bytes: what a plan allows.
const MAX_HEADING_BYTES: usize = 128;

/// The plan that `sql` means under an agreement.
///
/// # Errors
/// [`Unsupported`] says by name what cannot be asked, and what can be asked instead. The researcher must act.
pub fn plan(sql: &str, agreement: &Agreement, agreement_hash: Hash, ask: Ask) -> Result<Plan, Unsupported> {
    let query = read(sql)?;
    let QueryParts { select, order_by, limit } = query_parts(&query)?;
    let SelectParts { projection, from, selection, group_by } = select_parts(select)?;
    let planner = Planner::new(from, agreement)?;
    let filter = selection.map(|condition| planner.filter(condition)).transpose()?;
    let group_by = planner.group_columns(group_by, projection)?;
    let (outputs, measures) = planner.outputs(projection, &group_by)?;
    let order_by = order_by.map_or(Ok(Vec::new()), |order_by| planner.order(order_by, projection, &outputs))?;
    let limit = limit.map_or(Ok(None), row_limit)?;

    let domains = group_by.iter().map(|name| group_values(planner.terms, name)).collect::<Result<Vec<_>, _>>()?;
    let groups = cells_within_limit(&domains, measures.len())
        .map_err(|error| Unsupported::new("an answer of this size", error.to_string()))?;
    let schema = &planner.terms.schema;
    let plan = Plan {
        agreement: agreement_hash,
        bounding: Bounding {
            max_groups: schema.max_groups_per_person.min(groups),
            max_rows: schema.max_rows_per_person,
        },
        dataset: planner.terms.name.clone(),
        draw: ask.draw,
        filter,
        group_by,
        limit,
        measures,
        order_by,
        outputs,
        rho: ask.rho,
        version: PLAN_VERSION,
    };
    plan.check_shape().map_err(|error| Unsupported::new(error.to_string(), "ask for less at once"))?;
    Ok(plan)
}

// ---------------------------------------------------------------- from text to one SELECT

/// Exactly one query in the text.
fn read(sql: &str) -> Result<Query, Unsupported> {
    if sql.len() > MAX_SQL_BYTES {
        return Err(Unsupported::new("the query is too long", format!("use at most {MAX_SQL_BYTES} bytes")));
    }
    let dialect = GenericDialect {};
    let tokens = Tokenizer::new(&dialect, sql)
        .tokenize_with_location()
        .map_err(|error| Unsupported::new("this is not SQL", error.to_string()))?;
    limit_tokens(&tokens)?;
    let first_word = tokens.iter().find_map(|token| match &token.token {
        Token::Word(word) => Some(word.value.to_uppercase()),
        _ => None,
    });
    let statements = Parser::new(&dialect)
        .with_recursion_limit(PARSER_DEPTH)
        .with_tokens_with_locations(tokens)
        .parse_statements()
        .map_err(not_sql)?;
    let mut statements = statements.into_iter();
    match (statements.next(), statements.next()) {
        (None, _) => Err(Unsupported::new("the query is empty", "write a SELECT")),
        (Some(_), Some(_)) => Err(no("more than one statement", "ask one SELECT at a time")),
        (Some(Statement::Query(query)), None) => Ok(*query),
        (Some(_), None) => Err(no(&first_word.unwrap_or_default(), "only SELECT can be asked")),
    }
}

fn limit_tokens(tokens: &[TokenWithSpan]) -> Result<(), Unsupported> {
    let (mut structure, mut depth, mut after_table_word) = (0usize, 0usize, false);
    for TokenWithSpan { token, .. } in tokens {
        match token {
            Token::Whitespace(_) | Token::EOF => continue,
            Token::Comma | Token::Number(..) | Token::SingleQuotedString(_) => {}
            Token::LParen if after_table_word => return Err(no("a subquery or a join in parentheses", ONE_TABLE)),
            Token::LParen | Token::LBracket | Token::LBrace => {
                (structure, depth) = (structure + 1, depth + 1);
            }
            Token::RParen | Token::RBracket | Token::RBrace => depth = depth.saturating_sub(1),
            _ => structure += 1,
        }
        if structure > MAX_STRUCTURE {
            return Err(Unsupported::new("the query is too complex", format!("use at most {MAX_STRUCTURE} words")));
        }
        if depth > MAX_PARENTHESES {
            return Err(too_deep());
        }
        after_table_word = matches!(token, Token::Word(word) if BEFORE_TABLES.contains(&word.keyword));
    }
    Ok(())
}

fn not_sql(error: ParserError) -> Unsupported {
    match error {
        ParserError::RecursionLimitExceeded => too_deep(),
        ParserError::ParserError(message) | ParserError::TokenizerError(message) => {
            Unsupported::new("this is not SQL that is understood here", message)
        }
    }
}

struct QueryParts<'a> {
    select: &'a Select,
    order_by: Option<&'a OrderBy>,
    limit: Option<&'a LimitClause>,
}

fn query_parts(query: &Query) -> Result<QueryParts<'_>, Unsupported> {
    let Query { with, body, order_by, limit_clause, fetch, locks, for_clause, settings, format_clause, pipe_operators } =
        query;
    refuse_any(&[
        (with.is_some(), "WITH (a common table expression)", ONE_TABLE),
        (fetch.is_some(), "FETCH", "use LIMIT"),
        (!locks.is_empty(), "FOR UPDATE or FOR SHARE", "leave it out: nothing is locked"),
        (for_clause.is_some(), "FOR XML, FOR JSON or FOR BROWSE", "leave it out"),
        (settings.is_some(), "SETTINGS", "leave it out"),
        (format_clause.is_some(), "FORMAT", "leave it out"),
        (!pipe_operators.is_empty(), "the operator |>", "use WHERE, GROUP BY and ORDER BY"),
    ])?;
    match body.as_ref() {
        SetExpr::Select(select) => Ok(QueryParts { select, order_by: order_by.as_ref(), limit: limit_clause.as_ref() }),
        SetExpr::SetOperation { op, .. } => {
            Err(no(&op.to_string(), "ask each SELECT on its own, or use one SELECT with OR and GROUP BY"))
        }
        SetExpr::Query(_) => Err(no("a SELECT in parentheses", "write it without")),
        SetExpr::Values(_) => Err(no("VALUES", "select from a dataset")),
        SetExpr::Table(_) => Err(no("TABLE", "select counts, sums or means")),
        SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
            Err(no("changing data", "only SELECT can be asked"))
        }
    }
}

struct SelectParts<'a> {
    projection: &'a [SelectItem],
    from: &'a [TableWithJoins],
    selection: Option<&'a Expr>,
    group_by: &'a [Expr],
}

fn select_parts(select: &Select) -> Result<SelectParts<'_>, Unsupported> {
    let Select {
        select_token: _,
        optimizer_hints,
        distinct,
        select_modifiers,
        top,
        top_before_distinct: _,
        projection,
        exclude,
        into,
        from,
        lateral_views,
        prewhere,
        selection,
        connect_by,
        group_by,
        cluster_by,
        distribute_by,
        sort_by,
        having,
        named_window,
        qualify,
        window_before_qualify: _,
        value_table_mode,
        flavor,
    } = select;
    refuse_any(&[
        (!optimizer_hints.is_empty(), "an optimizer hint", "leave it out"),
        (!matches!(distinct, None | Some(Distinct::All)), "DISTINCT", "use GROUP BY with columns that have a domain"),
        (select_modifiers.is_some(), "a modifier after SELECT", "leave it out"),
        (top.is_some(), "TOP", "use LIMIT"),
        (exclude.is_some(), "EXCLUDE", "name what you ask for"),
        (into.is_some(), "INTO", "leave it out: the answer comes back to you"),
        (!lateral_views.is_empty(), "LATERAL VIEW", ONE_TABLE),
        (prewhere.is_some(), "PREWHERE", "use WHERE"),
        (!connect_by.is_empty(), "CONNECT BY", ONE_TABLE),
        (!cluster_by.is_empty(), "CLUSTER BY", "use ORDER BY"),
        (!distribute_by.is_empty(), "DISTRIBUTE BY", "leave it out"),
        (!sort_by.is_empty(), "SORT BY", "use ORDER BY"),
        (having.is_some(), "HAVING", "ask for all groups and choose among the answer's rows: they are noised already"),
        (!named_window.is_empty(), "WINDOW", NO_WINDOW),
        (qualify.is_some(), "QUALIFY", NO_WINDOW),
        (value_table_mode.is_some(), "SELECT AS", "name what you ask for"),
        (*flavor != SelectFlavor::Standard, "FROM before SELECT", "write SELECT … FROM …"),
    ])?;
    let group_by = match group_by {
        GroupByExpr::All(_) => return Err(no("GROUP BY ALL", "name the columns")),
        GroupByExpr::Expressions(_, modifiers) if !modifiers.is_empty() => {
            return Err(no("a modifier after GROUP BY", NO_CUBE));
        }
        GroupByExpr::Expressions(columns, _) => columns,
    };
    Ok(SelectParts { projection, from, selection: selection.as_ref(), group_by })
}

fn row_limit(clause: &LimitClause) -> Result<Option<u32>, Unsupported> {
    match clause {
        LimitClause::LimitOffset { offset: Some(_), .. } | LimitClause::OffsetCommaLimit { .. } => {
            Err(no("OFFSET", "ask for all rows of the answer and skip some: it costs the same"))
        }
        LimitClause::LimitOffset { limit_by, .. } if !limit_by.is_empty() => Err(no("LIMIT BY", "use LIMIT")),
        LimitClause::LimitOffset { limit: None, .. } => Ok(None),
        LimitClause::LimitOffset { limit: Some(limit), .. } => match position_number(limit) {
            Some(rows) => Ok(Some(rows)),
            None => Err(no("LIMIT by something else than a number", "write a whole number up to 4294967295")),
        },
    }
}

// ---------------------------------------------------------------- names

/// One dataset and the name that its columns may be qualified with.
struct Planner<'a> {
    terms: &'a DatasetTerms,
    qualifier: &'a str,
}

impl<'a> Planner<'a> {
    fn new(from: &'a [TableWithJoins], agreement: &'a Agreement) -> Result<Self, Unsupported> {
        let [TableWithJoins { relation, joins }] = from else {
            return Err(match from {
                [] => Unsupported::new("a query without FROM", datasets(agreement)),
                _ => no("more than one table in FROM (a join)", ONE_TABLE),
            });
        };
        refuse_any(&[(!joins.is_empty(), "JOIN", ONE_TABLE)])?;
        let (name, alias) = table(relation)?;
        let terms = agreement.datasets.iter().find(|terms| terms.name.as_str() == name).ok_or_else(|| {
            let near = nearest(name, agreement.datasets.iter().map(|terms| terms.name.as_str()));
            Unsupported::new(
                format!("there is no dataset `{name}`"),
                near.map_or_else(|| datasets(agreement), did_you_mean),
            )
        })?;
        Ok(Self { terms, qualifier: alias.unwrap_or(name) })
    }

    /// A column by its name, plain or qualified.
    fn column(&self, parts: &[Ident]) -> Result<&'a Column, Unsupported> {
        let name = match parts {
            [column] => column,
            [qualifier, column] if qualifier.value == self.qualifier => column,
            _ => {
                let name = parts.iter().map(|part| part.value.as_str()).collect::<Vec<_>>().join(".");
                return Err(Unsupported::new(
                    format!("there is no column `{name}`"),
                    format!("write `{}.column` or only the column", self.qualifier),
                ));
            }
        };
        let schema = &self.terms.schema;
        let found = schema.columns.iter().find(|column| column.name.as_str() == name.value);
        let column = found.ok_or_else(|| self.unknown_column(name))?;
        crate::typing::column(self.terms, &column.name)
    }

    fn unknown_column(&self, wanted: &Ident) -> Unsupported {
        let schema = &self.terms.schema;
        let askable = schema.columns.iter().filter(|column| schema.person.as_ref() != Some(&column.name));
        let names: Vec<&str> = askable.map(|column| column.name.as_str()).collect();
        let cut_at_minus =
            names.iter().find(|name| name.split_once('-').is_some_and(|(first, _)| first == wanted.value));
        let instead = match (cut_at_minus, nearest(&wanted.value, names.iter().copied())) {
            (Some(name), _) if wanted.quote_style.is_none() => format!("did you mean \"{name}\", in double quotes?"),
            (_, Some(near)) => did_you_mean(near),
            _ if wanted.quote_style.is_some() => {
                String::from("texts stand in single quotes; double quotes are for names of columns")
            }
            _ => format!("dataset `{}` has {}", self.terms.name, names.join(", ")),
        };
        Unsupported::new(format!("there is no column `{}`", wanted.value), instead)
    }

    /// A column, if the expression is one and nothing else.
    fn plain_column(&self, expr: &Expr) -> Option<Result<&'a Column, Unsupported>> {
        match unnested(expr) {
            Expr::Identifier(name) => Some(self.column(std::slice::from_ref(name))),
            Expr::CompoundIdentifier(parts) => Some(self.column(parts)),
            _ => None,
        }
    }
}

/// The name of the one table, and its alias.
fn table(relation: &TableFactor) -> Result<(&str, Option<&str>), Unsupported> {
    let TableFactor::Table {
        name,
        alias,
        args,
        with_hints,
        version,
        with_ordinality,
        partitions,
        json_path,
        sample,
        index_hints,
    } = relation
    else {
        return Err(match relation {
            TableFactor::Derived { .. } => no("a subquery", ONE_TABLE),
            TableFactor::NestedJoin { .. } => no("JOIN", ONE_TABLE),
            _ => no("a table function or a table made on the fly", ONE_TABLE),
        });
    };
    refuse_any(&[
        (args.is_some(), "a table function", ONE_TABLE),
        (!with_hints.is_empty() || !index_hints.is_empty(), "a hint to the table", "leave it out"),
        (version.is_some(), "a version of the table", "leave it out: nodes answer from their present data"),
        (*with_ordinality, "WITH ORDINALITY", "leave it out"),
        (!partitions.is_empty(), "PARTITION", "use WHERE"),
        (json_path.is_some(), "a JSON path", "name a column"),
        (sample.is_some(), "TABLESAMPLE", "leave it out: noise protects, sampling is not counted"),
    ])?;
    let alias = match alias {
        None => None,
        Some(TableAlias { explicit: _, name, columns, at: None }) if columns.is_empty() => Some(name.value.as_str()),
        Some(_) => return Err(no("renaming columns in FROM", "use AS in SELECT")),
    };
    match single_name(name) {
        Some(name) => Ok((name, alias)),
        None => Err(no("a table name with a dot", "name a dataset of the agreement")),
    }
}

fn single_name(name: &ObjectName) -> Option<&str> {
    match name.0.as_slice() {
        [part] => part.as_ident().map(|ident| ident.value.as_str()),
        _ => None,
    }
}

fn datasets(agreement: &Agreement) -> String {
    let names: Vec<String> = agreement.datasets.iter().map(|terms| format!("`{}`", terms.name)).collect();
    format!("the agreement has {}", names.join(", "))
}

fn did_you_mean(near: &str) -> String {
    format!("did you mean `{near}`? (names are matched exactly)")
}

// ---------------------------------------------------------------- WHERE

impl Planner<'_> {
    fn filter(&self, condition: &Expr) -> Result<Predicate, Unsupported> {
        let predicate = self.condition(condition, 0)?;
        check_predicate(&predicate, self.terms)?;
        Ok(predicate)
    }

    fn condition(&self, expr: &Expr, depth: usize) -> Result<Predicate, Unsupported> {
        limit_depth(depth)?;
        let depth = depth + 1;
        match expr {
            Expr::Nested(inner) => self.condition(inner, depth),
            Expr::UnaryOp { op: UnaryOperator::Not, expr } => Ok(negation(self.condition(expr, depth)?)),
            Expr::BinaryOp { left, op, right } => match op {
                BinaryOperator::And => Ok(Predicate::And(self.parts(expr, &BinaryOperator::And, depth)?)),
                BinaryOperator::Or => Ok(Predicate::Or(self.parts(expr, &BinaryOperator::Or, depth)?)),
                _ => match comparison(op) {
                    Some(operator) => {
                        let (left, right) = (self.scalar(left, depth)?, self.scalar(right, depth)?);
                        Ok(Predicate::Compare { left, operator, right })
                    }
                    None if arithmetic(op).is_some() => Err(not_a_condition("an arithmetic expression")),
                    None => Err(no(&format!("the operator {op}"), OPERATORS)),
                },
            },
            Expr::InList { expr, list, negated } => {
                let of = self.scalar(expr, depth)?;
                let values = list.iter().map(list_value).collect::<Result<Vec<_>, _>>()?;
                Ok(maybe_negated(Predicate::In { of, values }, *negated))
            }
            Expr::Between { expr, negated, low, high } => {
                let (of, low, high) = (self.scalar(expr, depth)?, self.scalar(low, depth)?, self.scalar(high, depth)?);
                let from = Predicate::Compare { left: of.clone(), operator: Comparison::GreaterOrEqual, right: low };
                let to = Predicate::Compare { left: of, operator: Comparison::LessOrEqual, right: high };
                Ok(maybe_negated(Predicate::And(vec![from, to]), *negated))
            }
            Expr::IsNull(of) => Ok(Predicate::IsMissing(self.scalar(of, depth)?)),
            Expr::IsNotNull(of) => Ok(negation(Predicate::IsMissing(self.scalar(of, depth)?))),
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Value(_) => self.boolean(expr, depth),
            other => Err(refusal(other)),
        }
    }

    /// The parts of a chain of one operator. The chain leans to the left and may be long, so it is walked in a loop.
    fn parts(&self, chain: &Expr, operator: &BinaryOperator, depth: usize) -> Result<Vec<Predicate>, Unsupported> {
        let mut parts = Vec::new();
        let mut rest = chain;
        while let Expr::BinaryOp { left, op, right } = rest
            && op == operator
        {
            parts.push(self.condition(right, depth)?);
            rest = left;
        }
        parts.push(self.condition(rest, depth)?);
        parts.reverse();
        Ok(parts)
    }

    /// A boolean column (or TRUE, FALSE) that stands alone.
    fn boolean(&self, expr: &Expr, depth: usize) -> Result<Predicate, Unsupported> {
        let left = self.scalar(expr, depth)?;
        match kind_of(&left, self.terms)? {
            Kind::Boolean => {
                let right = Scalar::Literal(Value::Boolean(true));
                Ok(Predicate::Compare { left, operator: Comparison::Equal, right })
            }
            kind => Err(not_a_condition(&kind.to_string())),
        }
    }
}

fn negation(predicate: Predicate) -> Predicate {
    Predicate::Not(Box::new(predicate))
}

fn maybe_negated(predicate: Predicate, negated: bool) -> Predicate {
    if negated { negation(predicate) } else { predicate }
}

fn comparison(operator: &BinaryOperator) -> Option<Comparison> {
    Some(match operator {
        BinaryOperator::Eq => Comparison::Equal,
        BinaryOperator::NotEq => Comparison::NotEqual,
        BinaryOperator::Lt => Comparison::Less,
        BinaryOperator::LtEq => Comparison::LessOrEqual,
        BinaryOperator::Gt => Comparison::Greater,
        BinaryOperator::GtEq => Comparison::GreaterOrEqual,
        _ => return None,
    })
}

fn list_value(expr: &Expr) -> Result<Value, Unsupported> {
    literal(expr).unwrap_or_else(|| match unnested(expr) {
        Expr::Subquery(_) => Err(refusal(expr)),
        _ => Err(no("a value in an IN list that is no number, text, TRUE or FALSE", "use OR with comparisons")),
    })
}

// ---------------------------------------------------------------- values

impl Planner<'_> {
    fn scalar(&self, expr: &Expr, depth: usize) -> Result<Scalar, Unsupported> {
        limit_depth(depth)?;
        let depth = depth + 1;
        if let Some(value) = literal(expr) {
            return value.map(Scalar::Literal);
        }
        if let Some(column) = self.plain_column(expr) {
            return column.map(|column| Scalar::Column(column.name.clone()));
        }
        let scalar = match expr {
            Expr::Nested(inner) => return self.scalar(inner, depth),
            // 0 − x; and 0 + x, so that a sign before a text is refused like other arithmetic on it.
            Expr::UnaryOp { op: op @ (UnaryOperator::Minus | UnaryOperator::Plus), expr } => Scalar::Arithmetic {
                left: Box::new(Scalar::Literal(Value::Number(Decimal::ZERO))),
                operator: if *op == UnaryOperator::Minus { Arithmetic::Subtract } else { Arithmetic::Add },
                right: Box::new(self.scalar(expr, depth)?),
            },
            Expr::BinaryOp { left, op, right } => {
                let operator = arithmetic(op).ok_or_else(|| refusal(expr))?;
                let (left, right) = (Box::new(self.scalar(left, depth)?), Box::new(self.scalar(right, depth)?));
                Scalar::Arithmetic { left, operator, right }
            }
            other => return Err(refusal(other)),
        };
        Ok(scalar)
    }
}

fn arithmetic(operator: &BinaryOperator) -> Option<Arithmetic> {
    Some(match operator {
        BinaryOperator::Plus => Arithmetic::Add,
        BinaryOperator::Minus => Arithmetic::Subtract,
        BinaryOperator::Multiply => Arithmetic::Multiply,
        BinaryOperator::Divide => Arithmetic::Divide,
        _ => return None,
    })
}

/// A literal value, or why it cannot be one; nothing where the expression is no literal at all.
fn literal(expr: &Expr) -> Option<Result<Value, Unsupported>> {
    match unnested(expr) {
        Expr::Value(value) => Some(literal_value(&value.value)),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match unnested(expr) {
            Expr::Value(value) => match &value.value {
                Literal::Number(digits, false) => Some(number(&format!("-{digits}"))),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

fn literal_value(value: &Literal) -> Result<Value, Unsupported> {
    match value {
        Literal::Number(digits, false) => number(digits),
        Literal::Number(_, true) => Err(no("a number with a letter behind it", "write digits only")),
        Literal::SingleQuotedString(text) => Ok(Value::Text(text.clone())),
        Literal::Boolean(value) => Ok(Value::Boolean(*value)),
        Literal::Null => Err(no("NULL as a value", "use IS NULL or IS NOT NULL")),
        Literal::Placeholder(_) => Err(no("a parameter", "write the value into the query")),
        _ => Err(no("this way of writing a text", "write texts in single quotes")),
    }
}

/// `.5` and `5.` are written out; everything else must be an exact decimal.
fn number(digits: &str) -> Result<Value, Unsupported> {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |rest| ("-", rest));
    let digits = digits.strip_suffix('.').unwrap_or(digits);
    let zero = if digits.starts_with('.') { "0" } else { "" };
    format!("{sign}{zero}{digits}").parse().map(Value::Number).map_err(|_| {
        no(&format!("the number {sign}{digits}"), "use at most 15 digits, 9 of them after the point, and no exponent")
    })
}

/// A whole number from 0, as after LIMIT or for a position.
fn position_number(expr: &Expr) -> Option<u32> {
    match expr {
        Expr::Value(value) => match &value.value {
            Literal::Number(digits, false) => digits.parse().ok(),
            _ => None,
        },
        _ => None,
    }
}

/// The expression without parentheses around it. The number of parentheses was limited before parsing.
fn unnested(expr: &Expr) -> &Expr {
    let mut expr = expr;
    while let Expr::Nested(inner) = expr {
        expr = inner;
    }
    expr
}

// ---------------------------------------------------------------- SELECT, GROUP BY, ORDER BY

impl Planner<'_> {
    /// The group columns: named, by the alias of a selected column, or by its position.
    fn group_columns(&self, group_by: &[Expr], projection: &[SelectItem]) -> Result<Vec<Name>, Unsupported> {
        let mut names: Vec<Name> = Vec::new();
        for expr in group_by {
            let column = match self.selected_as(expr, projection)? {
                Some(selected) => self.plain_column(selected),
                None => self.plain_column(expr),
            };
            let name = match column {
                Some(column) => column?.name.clone(),
                None if matches!(expr, Expr::Cube(_) | Expr::Rollup(_) | Expr::GroupingSets(_)) => {
                    return Err(refusal(expr));
                }
                None => return Err(no("GROUP BY an expression", "group by columns that have a domain")),
            };
            if names.contains(&name) {
                return Err(Unsupported::new(format!("column `{name}` stands twice in GROUP BY"), "name it once"));
            }
            names.push(name);
        }
        Ok(names)
    }

    /// What a position or an alias in GROUP BY stands for; nothing where it is a column's own name.
    fn selected_as<'e>(&self, expr: &Expr, projection: &'e [SelectItem]) -> Result<Option<&'e Expr>, Unsupported> {
        if let Expr::Value(_) = expr {
            let selected =
                position_number(expr).and_then(|at| (at as usize).checked_sub(1)).and_then(|at| projection.get(at));
            return match selected {
                Some(SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) => Ok(Some(expr)),
                _ => Err(Unsupported::new(
                    "a position in GROUP BY that is no column of SELECT",
                    format!("use 1 to {}", projection.len()),
                )),
            };
        }
        let Expr::Identifier(name) = expr else { return Ok(None) };
        if self.terms.schema.columns.iter().any(|column| column.name.as_str() == name.value) {
            return Ok(None);
        }
        Ok(projection.iter().find_map(|item| match item {
            SelectItem::ExprWithAlias { expr, alias } if alias.value == name.value => Some(expr),
            _ => None,
        }))
    }

    fn outputs(
        &self,
        projection: &[SelectItem],
        group_by: &[Name],
    ) -> Result<(Vec<Output>, Vec<Measure>), Unsupported> {
        let (mut outputs, mut measures) = (Vec::new(), Vec::new());
        for item in projection {
            let (expr, alias) = match item {
                SelectItem::UnnamedExpr(expr) => (expr, None),
                SelectItem::ExprWithAlias { expr, alias } => (expr, Some(alias)),
                SelectItem::ExprWithAliases { .. } => return Err(no("several aliases for one column", "give one")),
                SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..) => {
                    return Err(no("SELECT *", "rows never leave a node; select COUNT(*), SUM(x) or AVG(x)"));
                }
            };
            // First the value: it limits the depth of what the heading then prints.
            let value = self.output(expr, group_by, &mut measures)?;
            let name = match (alias, &value) {
                (Some(alias), _) => heading(&alias.value)?,
                (None, OutputColumn::Key(name)) => name.to_string(),
                (None, _) => heading(&expr.to_string())?,
            };
            outputs.push(Output { name, value });
        }
        if measures.is_empty() {
            return Err(Unsupported::new(
                "a query without COUNT, SUM or AVG",
                "rows never leave a node; select an aggregate",
            ));
        }
        Ok((outputs, measures))
    }

    fn output(&self, expr: &Expr, group_by: &[Name], measures: &mut Vec<Measure>) -> Result<OutputColumn, Unsupported> {
        if let Some(column) = self.plain_column(expr) {
            let name = &column?.name;
            return if group_by.contains(name) {
                Ok(OutputColumn::Key(name.clone()))
            } else {
                Err(Unsupported::new(
                    format!("column `{name}` in SELECT without an aggregate"),
                    "group by it, or use COUNT, SUM or AVG",
                ))
            };
        }
        match unnested(expr) {
            Expr::Function(function) => self.aggregate(function, measures),
            Expr::BinaryOp { .. } | Expr::UnaryOp { .. } => Err(no(
                "arithmetic outside an aggregate",
                "write it inside, as in SUM(a + b), or compute it from the answer's columns",
            )),
            Expr::Value(_) => Err(no("a constant in SELECT", "select COUNT, SUM or AVG")),
            other => Err(refusal(other)),
        }
    }

    /// COUNT, SUM or AVG.
    fn aggregate(&self, function: &Function, measures: &mut Vec<Measure>) -> Result<OutputColumn, Unsupported> {
        let kind = single_name(&function.name).map(str::to_uppercase).unwrap_or_default();
        if !matches!(kind.as_str(), "COUNT" | "SUM" | "AVG") {
            return Err(refused_function(function));
        }
        let argument = argument(function, &kind)?;
        let Some(argument) = argument else {
            return match kind.as_str() {
                "COUNT" => Ok(OutputColumn::Count(position_of(measures, Measure::Rows))),
                _ => Err(no(&format!("{kind}(*)"), "name what is summed")),
            };
        };
        let of = self.scalar(argument, 0)?;
        kind_of(&of, self.terms)?;
        let count = count_of(&of, &self.terms.schema);
        match kind.as_str() {
            "COUNT" => Ok(OutputColumn::Count(position_of(measures, count))),
            "SUM" => {
                let scale = sum_scale(&of, self.terms)?;
                let sum = Measure::CentredSum { centre: scale.centre, half_range: scale.half_range, of };
                Ok(OutputColumn::Sum(position_of(measures, sum)))
            }
            _ => {
                let scale = mean_scale(&of, self.terms)?;
                let sum = Measure::CentredSum { centre: scale.centre, half_range: scale.half_range, of };
                let count = position_of(measures, count);
                Ok(OutputColumn::Mean { count, sum: position_of(measures, sum) })
            }
        }
    }

    fn order(
        &self,
        order_by: &OrderBy,
        projection: &[SelectItem],
        outputs: &[Output],
    ) -> Result<Vec<Order>, Unsupported> {
        let OrderBy { kind, interpolate } = order_by;
        refuse_any(&[(interpolate.is_some(), "INTERPOLATE", "leave it out")])?;
        let OrderByKind::Expressions(keys) = kind else { return Err(no("ORDER BY ALL", "name the columns")) };
        keys.iter().map(|key| order_key(key, projection, outputs)).collect()
    }
}

/// A sort key: by position, by heading, or by repeating what is selected.
fn order_key(key: &OrderByExpr, projection: &[SelectItem], outputs: &[Output]) -> Result<Order, Unsupported> {
    let OrderByExpr { expr, options: OrderByOptions { sort, nulls_first }, with_fill } = key;
    refuse_any(&[
        (with_fill.is_some(), "WITH FILL", "leave it out: every group of the domain is in the answer"),
        (nulls_first.is_some(), "NULLS FIRST or NULLS LAST", "leave it out: missing keys come last"),
        (matches!(sort, Some(OrderBySort::Using(_))), "ORDER BY … USING", "use ASC or DESC"),
    ])?;
    let heading = |expr: &Expr| match expr {
        Expr::Identifier(name) => outputs.iter().position(|output| output.name == name.value),
        _ => None,
    };
    let selected = |expr: &Expr| {
        projection.iter().position(|item| match item {
            SelectItem::UnnamedExpr(selected) | SelectItem::ExprWithAlias { expr: selected, .. } => {
                unnested(selected) == unnested(expr)
            }
            _ => false,
        })
    };
    let numbered = |expr: &Expr| {
        position_number(expr).and_then(|at| (at as usize).checked_sub(1)).filter(|at| *at < outputs.len())
    };
    let position =
        numbered(expr).or_else(|| heading(expr)).or_else(|| selected(expr)).and_then(|at| u32::try_from(at).ok());
    let headings: Vec<String> = outputs.iter().map(|output| format!("`{}`", output.name)).collect();
    let output = position.ok_or_else(|| {
        no("ORDER BY what is no column of the answer", &format!("sort by {} or by position", headings.join(", ")))
    })?;
    Ok(Order { descending: matches!(sort, Some(OrderBySort::Desc)), output })
}

/// What an aggregate is over; nothing for `*`.
fn argument<'e>(function: &'e Function, kind: &str) -> Result<Option<&'e Expr>, Unsupported> {
    let Function { name: _, uses_odbc_syntax, parameters, args, within_group, filter, null_treatment, over } = function;
    refuse_any(&[
        (*uses_odbc_syntax, "{fn …}", "write the function without it"),
        (!matches!(parameters, FunctionArguments::None), "parameters before the arguments", "leave them out"),
        (!within_group.is_empty(), "WITHIN GROUP", "leave it out"),
        (filter.is_some(), "FILTER", "put the condition into WHERE, or ask two queries"),
        (null_treatment.is_some(), "IGNORE NULLS or RESPECT NULLS", "leave it out: missing values are ignored"),
        (over.is_some(), "OVER (a window function)", NO_WINDOW),
    ])?;
    let one = || no(&format!("{kind} of anything but one argument"), &format!("write {kind}(x)"));
    let FunctionArguments::List(FunctionArgumentList { duplicate_treatment, args, clauses }) = args else {
        return Err(match args {
            FunctionArguments::Subquery(_) => no("a subquery", ONE_TABLE),
            _ => one(),
        });
    };
    refuse_any(&[
        (
            matches!(duplicate_treatment, Some(DuplicateTreatment::Distinct)),
            "DISTINCT",
            "use COUNT(*) with GROUP BY a column that has a domain",
        ),
        (!clauses.is_empty(), "a clause inside an aggregate", "leave it out"),
    ])?;
    match args.as_slice() {
        [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)] => Ok(None),
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))] => Ok(Some(expr)),
        _ => Err(one()),
    }
}

/// The position of a measure, which is added unless it is there already.
fn position_of(measures: &mut Vec<Measure>, measure: Measure) -> u32 {
    let position = measures.iter().position(|known| *known == measure).unwrap_or_else(|| {
        measures.push(measure);
        measures.len() - 1
    });
    // There are fewer measures than the text has bytes.
    u32::try_from(position).unwrap_or(u32::MAX)
}

fn heading(text: &str) -> Result<String, Unsupported> {
    if text.is_empty() || text.len() > MAX_HEADING_BYTES || text.chars().any(char::is_control) {
        return Err(Unsupported::new(
            "a heading that is empty, longer than 128 bytes or has control characters",
            "name the column with AS",
        ));
    }
    Ok(text.to_owned())
}

// ---------------------------------------------------------------- refusals by name

const ONE_TABLE: &str = "ask about one dataset of the agreement at a time";
const NO_WINDOW: &str = "use GROUP BY";
const NO_CUBE: &str = "ask for the finest groups and add up the answer's rows";
const OPERATORS: &str = "there are + - * / = <> < <= > >= AND OR NOT IN BETWEEN IS NULL";

fn no(what: &str, instead: &str) -> Unsupported {
    Unsupported::new(format!("{what} is not supported"), instead)
}

fn refuse_any(clauses: &[(bool, &str, &str)]) -> Result<(), Unsupported> {
    match clauses.iter().find(|(present, ..)| *present) {
        Some((_, what, instead)) => Err(no(what, instead)),
        None => Ok(()),
    }
}

fn too_deep() -> Unsupported {
    Unsupported::new("the query is nested too deeply", "write it flatter, or ask for less at once")
}

fn limit_depth(depth: usize) -> Result<(), Unsupported> {
    if depth > MAX_DEPTH { Err(too_deep()) } else { Ok(()) }
}

fn not_a_condition(what: &str) -> Unsupported {
    Unsupported::new(format!("{what} where a condition is expected"), "compare it with something")
}

/// Names an expression that has no place where it stands.
fn refusal(expr: &Expr) -> Unsupported {
    let (what, instead) = match unnested(expr) {
        Expr::Function(function) => return refused_function(function),
        Expr::BinaryOp { op, .. } if arithmetic(op).is_none() => match op {
            BinaryOperator::And | BinaryOperator::Or => ("a condition used as a value", "use conditions in WHERE"),
            op if comparison(op).is_some() => ("a comparison used as a value", "use comparisons in WHERE"),
            op => return no(&format!("the operator {op}"), OPERATORS),
        },
        Expr::UnaryOp { op: UnaryOperator::Not, .. } => ("a condition used as a value", "use conditions in WHERE"),
        Expr::UnaryOp { op, .. } if !matches!(op, UnaryOperator::Minus | UnaryOperator::Plus) => {
            return no(&format!("the operator {op}"), OPERATORS);
        }
        Expr::BinaryOp { .. } | Expr::UnaryOp { .. } => {
            ("arithmetic here", "use it inside an aggregate or a comparison")
        }
        Expr::InList { .. } | Expr::Between { .. } | Expr::IsNull(_) | Expr::IsNotNull(_) => {
            ("a condition used as a value", "use conditions in WHERE")
        }
        Expr::Like { .. } | Expr::ILike { .. } => ("LIKE", "use = or IN with whole values"),
        Expr::SimilarTo { .. } | Expr::RLike { .. } => ("a regular expression", "use = or IN with whole values"),
        Expr::Subquery(_) | Expr::InSubquery { .. } => ("a subquery", ONE_TABLE),
        Expr::Exists { .. } => ("EXISTS (a subquery)", ONE_TABLE),
        Expr::InUnnest { .. } => ("UNNEST", "use IN with a list of values"),
        Expr::AnyOp { .. } | Expr::AllOp { .. } => ("ANY or ALL", "use IN with a list of values"),
        Expr::Case { .. } => ("CASE", "use WHERE or GROUP BY, one query per case"),
        Expr::Cast { .. } | Expr::Convert { .. } => ("CAST", "columns keep the type that the schema declares"),
        Expr::IsTrue(_) | Expr::IsNotTrue(_) | Expr::IsFalse(_) | Expr::IsNotFalse(_) => {
            ("IS TRUE or IS FALSE", "write = TRUE or = FALSE")
        }
        Expr::IsUnknown(_) | Expr::IsNotUnknown(_) => ("IS UNKNOWN", "use IS NULL"),
        Expr::IsDistinctFrom(..) | Expr::IsNotDistinctFrom(..) => ("IS DISTINCT FROM", "use = or <> with IS NULL"),
        Expr::Ceil { .. } | Expr::Floor { .. } => ("rounding (CEIL, FLOOR)", "use + - * / and round the answer"),
        Expr::Extract { .. } | Expr::AtTimeZone { .. } | Expr::Interval(_) | Expr::TypedString(_) => {
            ("a date or time", "use the columns that the schema declares")
        }
        Expr::Substring { .. }
        | Expr::Trim { .. }
        | Expr::Position { .. }
        | Expr::Overlay { .. }
        | Expr::Collate { .. } => ("working on texts", "use = or IN with whole values"),
        Expr::Cube(_) | Expr::Rollup(_) | Expr::GroupingSets(_) => ("CUBE, ROLLUP or GROUPING SETS", NO_CUBE),
        Expr::Tuple(_) | Expr::Array(_) | Expr::Struct { .. } | Expr::Map(_) | Expr::Dictionary(_) => {
            ("a list or structure as a value", "use single values")
        }
        Expr::Wildcard(_) | Expr::QualifiedWildcard(..) => ("*", "name the columns"),
        _ => ("this expression", OPERATORS),
    };
    no(what, instead)
}

fn refused_function(function: &Function) -> Unsupported {
    let parts: Vec<String> =
        function.name.0.iter().filter_map(|part| Some(part.as_ident()?.value.to_uppercase())).collect();
    let name = parts.join(".");
    let instead = match name.as_str() {
        "COUNT" | "SUM" | "AVG" => return no(&format!("{name} here"), "aggregates stand alone in SELECT"),
        "MIN" | "MAX" => "the extremes are single persons; count over ranges with WHERE",
        "MEDIAN" | "QUANTILE" | "PERCENTILE" | "PERCENTILE_CONT" | "PERCENTILE_DISC" | "APPROX_QUANTILE" => {
            "count over ranges with WHERE, or use AVG"
        }
        "VAR" | "VARIANCE" | "VAR_POP" | "VAR_SAMP" | "STDDEV" | "STDDEV_POP" | "STDDEV_SAMP" | "STD" => {
            "select AVG(x) and AVG(x * x) and compute AVG(x * x) - AVG(x) * AVG(x) from the answer"
        }
        "MEAN" => "use AVG",
        "ABS" | "ROUND" | "SQRT" | "LN" | "LOG" | "EXP" | "POWER" | "POW" | "MOD" | "GREATEST" | "LEAST" => {
            "use + - * / over columns with bounds"
        }
        "COALESCE" | "IFNULL" | "NULLIF" | "NVL" | "IF" => "use WHERE with IS NULL or IS NOT NULL",
        _ => "there are COUNT, SUM and AVG",
    };
    no(&format!("the function {name}"), instead)
}
