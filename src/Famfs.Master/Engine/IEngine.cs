using Famfs.Master.Changes;
using Famfs.Master.Queries;

namespace Famfs.Master.Engine;

/// <summary>What may be asked of the engine.</summary>
internal interface IEngine
{
    /// <summary>Queues a change; the task ends when it is published and checked. Errors: NOT_MASTER when the engine has ended,
    /// OVERLOADED when the queue is full, and the change's. Any thread.</summary>
    Task<T> RunAsync<T>(Change<T> change, Caller caller);

    /// <summary>Queues a query, which takes the caller's turns as changes do; the task ends when the state that it saw is published and
    /// checked. Errors as <see cref="RunAsync"/>, and the query's. Any thread.</summary>
    Task<T> QueryAsync<T>(Caller caller, Func<StateReader, T> query);
}
